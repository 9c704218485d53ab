"""How long a training takes from its command to its first update.

    python benchmarks/start_up.py [--quick] [--before PYTHON]

Two workers are started, by `tfdp launch`, and by `torchrun` with PyTorch's
DistributedDataParallel, and plain Keras in one process: in turns, each a few
times. A worker notes when it is started, has imported, has met the others, has
built the model, has agreed on what is trained on, and has made an update, and
the CPU time it has taken until then. The tables show medians, of the worker
that comes last. `--before` is an interpreter with another tfdp, which takes
turns.
"""

import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from harness.marks import parts_of
from harness.table import print_head, print_row
from peers import python_of, version_of

BENCHMARKS = pathlib.Path(__file__).parent
NETWORKS = ("dense", "convolutional", "transformer")
CONTESTANTS = ("tfdp", "torchrun", "Keras, one process")
PATIENCE = 180


def command(contestant, network, folder, before):
    """Returns what a user would start."""
    if contestant == "torchrun":
        return [
            *(python_of("torch"), "-m", "torch.distributed.run"),
            *("--standalone", "--nproc-per-node", "2"),
            *(BENCHMARKS / "start_up_torch.py", network, folder),
        ]
    worker = [BENCHMARKS / "start_up_worker.py", network, folder]
    if contestant == "Keras, one process":
        return [sys.executable, *worker]
    python = before if contestant == "before" else sys.executable
    # Not of the folder that this is started in.
    launch = [python, "-P", "-m", "tfdp.cli", "launch", "--workers", "2"]
    return [*launch, *worker]


def measure(contestant, network, before):
    """Returns the parts of one start, and the whole of it."""
    with tempfile.TemporaryDirectory() as folder:
        words = command(contestant, network, folder, before)
        begun = time.time()
        result = subprocess.run(
            list(map(str, words)),
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE,
            text=True,
        )
        if result.returncode:
            raise SystemExit(f"{result.stdout}\nThis does not train.")
        return parts_of(folder, begun)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--before", metavar="PYTHON")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS)
    parser.add_argument("--only", nargs="+", choices=CONTESTANTS)
    parser.add_argument("--rounds", type=int)
    arguments = parser.parse_args()
    networks = arguments.networks or NETWORKS[: 1 if arguments.quick else None]
    names = list(arguments.only or CONTESTANTS)
    more = [version_of("torch")] if "torchrun" in names else ()
    if arguments.before:
        names.append("before")
    rounds = arguments.rounds or (1 if arguments.quick else 7)
    found = {(n, name): [] for n in networks for name in names}
    for number in range(rounds):
        for network, name in list(found)[:: 1 if number % 2 == 0 else -1]:
            found[network, name].append(
                measure(name, network, arguments.before)
            )
    parts = list(next(iter(found.values()))[0][0])
    print_head("network", "", "of", *parts, "until the first update", more=more)
    for key, starts in found.items():
        for place, kind in enumerate(("seconds", "CPU seconds")):
            cells = [
                statistics.median(each[part][place] for each, _ in starts)
                for part in parts
            ]
            whole = statistics.median(whole[place] for _, whole in starts)
            print_row(*key, kind, *(f"{x:.2f}" for x in (*cells, whole)))


if __name__ == "__main__":
    main()
