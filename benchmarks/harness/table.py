"""A Markdown table under a line that names the machine and the versions."""

import importlib.metadata
import os
import platform
import subprocess
import sys

from harness.turns import machine

_KERNELS = """
from tfdp.upstream.tensorflow import tf_runtime
print({True: "oneDNN", False: "Eigen"}[tf_runtime.uses_onednn()])
"""

PACKAGES = ("tensorflow", "keras", "tfdp")


def print_head(*columns, packages=PACKAGES, more=()):
    """Prints the machine, the versions of packages, more, and the columns."""
    found = [f"{p} {importlib.metadata.version(p)}" for p in packages]
    python = f"Python {platform.python_version()}"
    print(machine(python, *found, *kernels(), *more), end="\n\n")
    print_row(*columns)
    print_row(*["---"] * len(columns))


def kernels():
    """Names the kernels that TensorFlow has where tfdp's workers train."""
    # A peer's environment, which draws no table, lacks it.
    from tfdp.launching.worker_settings import WHERE_UNSET

    try:
        found = subprocess.run(
            [sys.executable, "-c", _KERNELS],
            env={**WHERE_UNSET, **os.environ},
            capture_output=True,
            text=True,
            check=True,
        )
    except subprocess.CalledProcessError:
        return []
    return [f"{found.stdout.split()[-1]} kernels"]


def print_row(*cells):
    """Prints one row, at once."""
    print("|", " | ".join(map(str, cells)), "|", flush=True)
