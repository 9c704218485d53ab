"""A measurement in a process of its own."""

import json
import os
import subprocess
import sys

from harness.turns import KERNELS


def in_own_process(script, *arguments):
    """Returns what `script --one ARGUMENTS` prints last, as JSON."""
    command = [sys.executable, script, "--one", *map(str, arguments)]
    environment = {
        **KERNELS,
        **os.environ,
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    result = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True
    )
    return json.loads(result.stdout.splitlines()[-1])
