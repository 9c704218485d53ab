"""What `import tfdp` takes, and its names when they are first used.

    python benchmarks/import_time.py [--quick]

Fresh interpreters import tfdp, then tensorflow and keras, and then use the
names of a training. The table shows medians.
"""

import argparse
import statistics
import subprocess
import sys

from harness.table import print_head, print_row

PROGRAM = """
import time
moments = [time.perf_counter()]
import tfdp
moments.append(time.perf_counter())
import tensorflow
import keras
moments.append(time.perf_counter())
tfdp.auto_strategy, tfdp.DistributedOptimizer, tfdp.callbacks
moments.append(time.perf_counter())
print(*(after - before for before, after in zip(moments, moments[1:])))
"""


def milliseconds():
    """Returns the time of tfdp, of TensorFlow and Keras, and of its names."""
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        check=True,
    )
    words = result.stdout.splitlines()[-1].split()
    return [float(word) * 1e3 for word in words]


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int)
    arguments = parser.parse_args()
    rounds = arguments.rounds or (3 if arguments.quick else 25)
    # The first round compiles, and reads files that later ones find in memory.
    pairs = [milliseconds() for _ in range(rounds + 1)][1:]
    print_head("imported", "ms")
    labels = ("tfdp", "tensorflow, keras", "names of tfdp, after them")
    for label, values in zip(labels, zip(*pairs, strict=True), strict=True):
        print_row(label, f"{statistics.median(values):,.0f}")


if __name__ == "__main__":
    main()
