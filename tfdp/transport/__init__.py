"""Gradients between CPU workers by an engine that is faster than TensorFlow's.

Knows one worker's program and the memory that they share; no strategy, and no
TensorFlow.
"""

from tfdp.transport.choice import (
    Communication,
    checked_communication,
    obstacle,
)
from tfdp.transport.courier import Courier
