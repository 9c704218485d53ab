"""What goes over a socket, and who may send it: messages, proofs, refusals.

Import its files by their names. Knows the machine; must not know what messages
are about.
"""
