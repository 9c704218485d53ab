"""Samples per second where reading takes the time, on one to four workers.

    python benchmarks/input.py [--quick]

Decoding a sample takes a known time: it sleeps, four samples at a time, as if
it waited for a disk, or it computes. tfdp trains a small model with
`tfdp.shard` before it, and without, where every worker decodes all samples;
PyTorch with its DataLoader and DistributedSampler. All take turns. The table
shows medians: samples per second, what part that is of the most that decoding
allows, and how many times the rate of one worker it is.
"""

import argparse
import os
import pathlib
import statistics
import sys

from harness.table import print_head, print_row
from harness.turns import Player, in_turns, ratio_of_medians, ready
from peers import python_of, version_of

from tfdp.cluster.cluster import Cluster
from tfdp.cluster.nodes import free_addresses
from tfdp.launching.worker_settings import WHERE_UNSET
from tfdp.machine.cores import thread_variables

WORKER = pathlib.Path(__file__).with_name("input_worker.py")
BATCH = 32  # per replica
CONTESTANTS = {
    "tfdp": "marked",
    "tfdp, not marked": "unmarked",
    "DataLoader": "torch",
}
WORKERS = (1, 2, 4)
# Seconds that a sample takes, and how many are decoded at a time.
DECODES = {"sleeps": (0.01, 4), "computes": (0.002, 1)}
# Steps for each worker, in which what was read between turns is used up.
DRAIN = 6
# Whole rounds of what is read at once, whatever the workers.
STEPS = 16


class Reader(Player):
    """Workers whose turns begin when nothing is left that was read before."""

    def __init__(self, command, environments, cores):
        super().__init__(command, environments, cores)
        self._drain = max(2, len(environments)) * DRAIN

    def turn(self, steps):
        super().turn(self._drain)
        return super().turn(steps)


def player(contestant, workers, decode):
    """Starts the workers of a contestant."""
    library = CONTESTANTS[contestant]
    addresses = free_addresses(workers)
    host, port = addresses[0].split(":")
    cores = sorted(os.sched_getaffinity(0))
    variables = [
        {
            # As `tfdp launch` starts its workers.
            **({} if library == "torch" else WHERE_UNSET),
            **thread_variables(1),
            "TF_CONFIG": Cluster.of(addresses, rank).to_tf_config(),
            "MASTER_ADDR": host,
            "MASTER_PORT": port,
            "RANK": str(rank),
            "WORLD_SIZE": str(workers),
        }
        for rank in range(workers)
    ]
    python = python_of("torch") if library == "torch" else sys.executable
    return Reader(
        [python, WORKER, library, decode, *DECODES[decode]],
        variables,
        [{cores[rank % len(cores)]} for rank in range(workers)],
    )


def most(workers, decode):
    """Returns the samples per second that decoding allows."""
    seconds, parallel = DECODES[decode]
    if decode == "computes":
        return min(workers, len(os.sched_getaffinity(0))) / seconds
    return workers * parallel / seconds


def measure(decode, names, numbers, rounds):
    players = {
        (name, workers): player(name, workers, decode)
        for name in names
        for workers in numbers
        # One worker has nothing to split.
        if workers > 1 or name != "tfdp, not marked"
    }
    with ready(players):
        answers = in_turns(players, STEPS, rounds)
    rates = {
        key: [
            STEPS * BATCH * key[1] / max(each["seconds"] for each in answer)
            for answer in answers[key]
        ]
        for key in players
    }
    for (name, workers), own in rates.items():
        alone = rates.get((name, 1)) or rates.get(("tfdp", 1))
        middle = statistics.median(own)
        print_row(
            decode,
            name,
            workers,
            f"{middle:,.0f}",
            f"{middle / most(workers, decode):.0%}",
            f"{ratio_of_medians(own, alone):.2f}" if alone else "",
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--decodes", nargs="+", choices=DECODES)
    parser.add_argument("--only", nargs="+", choices=CONTESTANTS)
    parser.add_argument("--workers", nargs="+", type=int, default=WORKERS)
    parser.add_argument("--rounds", type=int)
    arguments = parser.parse_args()
    names = arguments.only or list(CONTESTANTS)
    rounds = arguments.rounds or (3 if arguments.quick else 9)
    print_head(
        *("decoding", "", "workers", "samples/s", "of the most"),
        "over one worker",
        more=[version_of("torch")] if "DataLoader" in names else [],
    )
    for decode in arguments.decodes or DECODES:
        measure(decode, names, arguments.workers, rounds)


if __name__ == "__main__":
    main()
