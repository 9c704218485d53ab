"""A function as several workers, from a script or a cell of a notebook.

Knows how workers are started. Must not know TensorFlow, nor what the function
does.
"""

from tfdp.calls.kept_server import server_for
