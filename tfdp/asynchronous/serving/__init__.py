"""The server: its process, and what it does for the workers.

Knows what workers say and in which order; must not know who says it from where,
nor how a worker asks.
"""
