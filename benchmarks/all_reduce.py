"""Bandwidth of the all-reduce between two workers, over the size.

    python benchmarks/all_reduce.py [--quick]

TensorFlow's under tfdp's strategy, that which tfdp's gradients travel by where
gloo is installed, PyTorch's on gloo, and a plain exchange of
as many bytes over TCP as a ring of two sends; each worker on a core of its own,
in turns. GB/s are bytes of the tensor over the time, which for two workers is
what each of them sends. The table shows medians over the rounds of the slower
worker's time, and their ratio.
"""

import argparse
import pathlib
import statistics
import sys

from harness.table import print_head, print_row
from harness.turns import Player, in_turns, ratio_of_medians, ready
from peers import python_of, version_of

from tfdp.bench.all_reduce_curve import KIBIBYTE, MEBIBYTE, size_text
from tfdp.cluster.cluster import Cluster
from tfdp.cluster.nodes import free_addresses
from tfdp.launching.worker_settings import WHERE_UNSET
from tfdp.machine.cores import core_shares, thread_variables

WORKER = pathlib.Path(__file__).with_name("all_reduce_worker.py")
CONTESTANTS = {
    "TCP": ["tcp"],
    "tfdp": ["tfdp", "float32"],
    "tfdp, bfloat16": ["tfdp", "bfloat16"],
    "tfdp, gloo": ["carried", "float32"],
    "gloo": ["torch", "float32"],
    "gloo, bfloat16": ["torch", "bfloat16"],
}
SIZES = [4**k * KIBIBYTE for k in range(1, 9)]
QUICK_SIZES = [64 * KIBIBYTE, 4 * MEBIBYTE]


def player(arguments):
    """Starts the two workers of a contestant."""
    addresses = free_addresses(2)
    host, port = addresses[0].split(":")
    library = {"carried": "tfdp"}.get(arguments[0], arguments[0])
    communication = "gloo" if arguments[0] == "carried" else "tensorflow"
    variables = [
        {
            # As `tfdp launch` starts its workers.
            **(WHERE_UNSET if library == "tfdp" else {}),
            **thread_variables(1),
            "TFDP_COMMUNICATION": communication,
            "TF_CONFIG": Cluster.of(addresses, rank).to_tf_config(),
            "MASTER_ADDR": host,
            "MASTER_PORT": port,
            "RANK": str(rank),
            "WORLD_SIZE": "2",
        }
        for rank in range(2)
    ]
    python = python_of("torch") if library == "torch" else sys.executable
    return Player([python, WORKER, *arguments], variables, core_shares(2, 1))


def cell(size, seconds):
    middle = statistics.median(seconds)
    return f"{middle * 1e3:.2f} ms, {size / middle / 1e9:.3g} GB/s"


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="+", choices=CONTESTANTS)
    arguments = parser.parse_args()
    names = arguments.only or list(CONTESTANTS)
    sizes, rounds = (QUICK_SIZES, 3) if arguments.quick else (SIZES, 15)
    players = {name: player(CONTESTANTS[name]) for name in names}
    compared = [name for name in ("tfdp", "tfdp, gloo") if name in names]
    compared = compared if "gloo" in names else []
    columns = ["tensor", *names, *(f"{name} / gloo" for name in compared)]
    has_torch = "torch" in {CONTESTANTS[name][0] for name in names}
    print_head(
        *columns,
        packages=("tensorflow", "tfdp"),
        more=[version_of("torch")] if has_torch else [],
    )
    with ready(players):
        for size in sizes:
            calls = max(1, min(50, 8 * MEBIBYTE // size))
            answers = in_turns(players, {"bytes": size, "calls": calls}, rounds)
            seconds = {
                name: [max(answer) for answer in each]
                for name, each in answers.items()
            }
            cells = [cell(size, each) for each in seconds.values()]
            for name in compared:
                ratio = ratio_of_medians(seconds["gloo"], seconds[name])
                cells.append(f"{ratio:.2f}")
            print_row(size_text(size), *cells)


if __name__ == "__main__":
    main()
