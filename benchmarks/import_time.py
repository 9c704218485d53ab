"""What `import tfdp` adds to importing TensorFlow and Keras.

    python benchmarks/import_time.py [--quick]

Starts fresh interpreters in turns: one imports tensorflow and keras, the other
tfdp after them. The table shows medians, that of the difference within rounds,
and that of the last line of the second program alone, which varies less.
"""

import argparse
import statistics
import subprocess
import sys

from table import print_head, print_row

PROGRAM = """
import time
begin = time.perf_counter()
import tensorflow
import keras
between = time.perf_counter()
{line}
end = time.perf_counter()
print(end - begin, end - between)
"""


def milliseconds(line):
    """Returns the time of all imports, and of the line after them."""
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(line=line)],
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
    pairs = [
        [milliseconds("pass"), milliseconds("import tfdp")]
        for _ in range(rounds + 1)
    ][1:]
    print_head("imported", "ms")
    for label, values in {
        "tensorflow, keras": [without[0] for without, _ in pairs],
        "tensorflow, keras, tfdp": [ours[0] for _, ours in pairs],
        "difference": [ours[0] - without[0] for without, ours in pairs],
        "`import tfdp` alone": [ours[1] for _, ours in pairs],
    }.items():
        print_row(label, f"{statistics.median(values):,.0f}")


if __name__ == "__main__":
    main()
