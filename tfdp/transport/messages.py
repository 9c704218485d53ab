"""What a worker and its program for gradients say to each other."""

import struct

# Where numbers of float32 lie in the memory, and how many.
REQUEST = struct.Struct("<QQ")
# The answer to a request, in its turn; a text instead says what has failed.
DONE = b""
