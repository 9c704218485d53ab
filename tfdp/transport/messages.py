"""What a worker and its program for gradients say to each other."""

import struct

# Bytes of a number, by its type.
TYPES = {"float32": 4, "float16": 2}
# Where numbers are in the memory, how many, and the place of their type.
REQUEST = struct.Struct("<QQB")
# The answer to a request, in its turn; a text instead says what has failed.
DONE = b""
