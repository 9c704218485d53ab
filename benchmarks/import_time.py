"""What `import tfdp` adds to importing TensorFlow and Keras.

    python benchmarks/import_time.py [--quick]

Fresh interpreters import tensorflow and keras, and tfdp after them. The table
shows medians.
"""

import argparse
import statistics
import subprocess
import sys

from harness.table import print_head, print_row

PROGRAM = """
import time
begin = time.perf_counter()
import tensorflow
import keras
between = time.perf_counter()
import tfdp
end = time.perf_counter()
print(between - begin, end - between)
"""


def milliseconds():
    """Returns the time of TensorFlow and Keras, and of tfdp after them."""
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
    labels = ("tensorflow, keras", "tfdp, after them")
    for label, values in zip(labels, zip(*pairs, strict=True), strict=True):
        print_row(label, f"{statistics.median(values):,.0f}")


if __name__ == "__main__":
    main()
