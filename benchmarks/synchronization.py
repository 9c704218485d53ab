"""Ways to synchronise two workers, each on a core: time, bytes, memory.

    python benchmarks/synchronization.py [--quick]

Trains the dense network of `two_workers.py` by each of tfdp's ways, beside
PyTorch's DistributedDataParallel, its post-local SGD and its
ZeroRedundancyOptimizer, in turns. Bytes are what crosses the loopback device
meanwhile, both ways and all overheads included, so that nothing else should.
"Times as fast" is the time of a synchronous update of the same library over
that of this way. State are the momenta that a worker holds.
"""

import argparse
import pathlib
import statistics

from harness.pair import pair
from harness.table import print_head, print_row
from harness.turns import Player, in_turns, ratio_of_medians, ready
from peers import version_of

# Whole rounds of sixteen.
STEPS = 32
LOOPBACK = "/sys/class/net/lo/statistics/tx_bytes"
CONTESTANTS = {
    "tfdp": ("tfdp", "Synchronous"),
    "tfdp, LocalSGD(4)": ("tfdp", "LocalSGD:4"),
    "tfdp, LocalSGD(16)": ("tfdp", "LocalSGD:16"),
    "tfdp, DiLoCo(16)": ("tfdp", "DiLoCo:16"),
    "tfdp, Delayed": ("tfdp", "Delayed"),
    "tfdp, ShardedState": ("tfdp", "ShardedState"),
    "DDP": ("torch", "DDP"),
    "DDP, post-local SGD(4)": ("torch", "post-local:4"),
    "DDP, post-local SGD(16)": ("torch", "post-local:16"),
    "torchft, LocalSGD(4)": ("torch", "torchft:4"),
    "DDP, ZeroRedundancyOptimizer": ("torch", "zero"),
}
QUICK = ("tfdp", "tfdp, LocalSGD(4)", "tfdp, Delayed")


class Counted(Player):
    """Two workers, and the bytes between them in a turn."""

    def turn(self, argument):
        before = loopback_bytes()
        answers = super().turn(argument)
        sent = loopback_bytes() - before
        return [{**answer, "bytes": sent} for answer in answers]


def loopback_bytes():
    """Returns what this machine has sent to itself since it was started."""
    return int(pathlib.Path(LOOPBACK).read_text())


def measure(names, rounds):
    players = {}
    for name in names:
        library, way = CONTESTANTS[name]
        players[name] = pair(library, ["dense", "1", "none", way], Counted)
    with ready(players):
        answers = in_turns(players, STEPS, rounds)
    seconds, sent, last = {}, {}, {}
    for name, of_rounds in answers.items():
        seconds[name] = [
            max(each["seconds"] for each in answer) / STEPS
            for answer in of_rounds
        ]
        sent[name] = [answer[0]["bytes"] / STEPS for answer in of_rounds]
        last[name] = of_rounds[-1]
    for name in names:
        reference = {"tfdp": "tfdp", "torch": "DDP"}[CONTESTANTS[name][0]]
        ratio = ratio_of_medians(seconds[reference], seconds[name])
        print_row(
            name,
            f"{statistics.median(seconds[name]) * 1e3:.1f}",
            f"{statistics.median(sent[name]) / 1e6:.1f}",
            f"{ratio:.2f}",
            *(
                ", ".join(
                    f"{each[held] / 1e6:.{digits}f}" for each in last[name]
                )
                for held, digits in (("state", 1), ("peak", 0))
            ),
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="+", choices=CONTESTANTS)
    parser.add_argument("--rounds", type=int)
    arguments = parser.parse_args()
    names = arguments.only or (QUICK if arguments.quick else CONTESTANTS)
    rounds = arguments.rounds or (3 if arguments.quick else 11)
    used = {CONTESTANTS[name][0] for name in names} - {"tfdp"}
    print_head(
        *("", "ms per update", "MB per update", "times as fast"),
        *("MB of state per worker", "peak MB of each"),
        more=[version_of(each) for each in sorted(used)],
    )
    measure(list(names), rounds)


if __name__ == "__main__":
    main()
