"""Which kernels TensorFlow computes with on the CPU.

It has oneDNN's, and turns them on by itself only on processors with AVX512-VNNI
or AMX. On others a step takes up to 2.6 times as long without them.
"""

import platform

from tfdp.settings import ONEDNN

_X86 = ("x86_64", "AMD64")


def kernel_variables() -> dict[str, str]:
    """Returns the variables that have a program use oneDNN's kernels.

    They must be set before TensorFlow is imported.

    Returns:
        `TF_ENABLE_ONEDNN_OPTS`, which changes nothing where they are on anyhow;
        nothing where the processor is none of x86.

    Example:

    >>> set(kernel_variables()) <= {"TF_ENABLE_ONEDNN_OPTS"}
    True
    """
    return {ONEDNN: "1"} if platform.machine() in _X86 else {}
