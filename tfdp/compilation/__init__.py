"""Replicas whose forward and backward pass XLA compiles.

What meets other replicas stays outside: updates, metrics, votes. Knows no
strategy and no optimizer.
"""

from tfdp.compilation.compile_times import CompileTimes
from tfdp.compilation.compiled_step import compiled_step
from tfdp.compilation.refusals import (
    RULE,
    WAY_OUT,
    layers_without_jit,
    naming_refused,
    refusal,
)
