"""Workers that do not wait for each other: speed, failures, and their price.

    python benchmarks/asynchronous.py [slow] [killed] [price] [exchange]
    python benchmarks/asynchronous.py --quick

`slow`: samples per second of two workers, one of which is three times as slow,
synchronous and at several bounds on staleness, which take turns, an epoch each.
A step sleeps for 50 ms, or 150 ms, as if it computed: so it is the same for
all, however many cores there are. `killed`: `tfdp launch --asynchronous`, of
whose workers one is killed every 20 s, and what they have trained on. `price`:
loss and accuracy on the tasks of `local_updates.py`. When workers, one of which
is three times as slow, read and update is a simulation by the engine's own
rules; gradients and updates are real. `exchange`: what an update by the server
costs a worker alone, beside `MirroredStrategy`.

A lower rate is the one of the others over 1 + the mean staleness.
"""

import argparse
import json
import os
import pathlib
import secrets
import signal
import statistics
import subprocess
import sys
import tempfile
import time

from harness.table import print_head, print_row
from harness.turns import Player, in_turns, ratio_of_medians, ready
from synchronization import Counted

from tfdp.cluster.cluster import Cluster
from tfdp.cluster.nodes import free_addresses
from tfdp.launching.worker_settings import WHERE_UNSET
from tfdp.machine.cores import thread_variables

WORKER = pathlib.Path(__file__).with_name("asynchronous_worker.py")
LAUNCH = (sys.executable, "-m", "tfdp.cli", "launch", "--asynchronous")
PARTS = ("slow", "killed", "price", "exchange")
BOUNDS = (0, 1, 2, 4, 8)
STEP_SECONDS, BATCHES, BATCH = 0.05, 96, 32
KILLED_WORKERS, KILLED_BOUND, KILL_EVERY = 3, 4, 20
TASKS = ("digits", "text")
CHECKED_BOUND = 4
EPOCHS, SEEDS, PRICE_WORKERS = 20, 3, (2, 4)
NETWORKS = {"convolutional": 16, "dense": 8, "transformer": 8}


def workers(arguments, count=2):
    """Starts workers that take turns together."""
    addresses = free_addresses(count)
    common = {
        **WHERE_UNSET,
        **thread_variables(1),
        "TFDP_JOB_SECRET": secrets.token_hex(),
    }
    configs = [Cluster.of(addresses, i).to_tf_config() for i in range(count)]
    return Player(
        [sys.executable, WORKER, *arguments],
        [{**common, "TF_CONFIG": config} for config in configs],
    )


def print_slow(bounds, rounds, batches):
    ways = ["synchronous", *map(str, bounds)]
    players = {
        way: workers(["turns", way, STEP_SECONDS, batches]) for way in ways
    }
    with ready(players):
        answers = in_turns(players, None, rounds)
    seconds = {
        way: [max(answer) for answer in of_rounds]
        for way, of_rounds in answers.items()
    }
    print_head("two workers, one slow", "samples/s", "over synchronous")
    for way in ways:
        rate = batches * BATCH / statistics.median(seconds[way])
        ratio = ratio_of_medians(seconds["synchronous"], seconds[way])
        name = way if way == "synchronous" else f"bound {way}"
        print_row(name, f"{rate:,.0f}", f"{ratio:.2f}")


def print_killed(minutes):
    from apart.killed import checked

    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(*LAUNCH, "--workers", KILLED_WORKERS, "--max-restarts", 99),
            *(WORKER, "killed", folder, minutes, KILLED_BOUND),
        ]
        begin = time.monotonic()
        job = subprocess.Popen(
            list(map(str, command)),
            env={**os.environ, **thread_variables(1)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        kills = _kill_in_turns(job, pathlib.Path(folder))
        errors = job.communicate()[1]
        if job.returncode:
            raise SystemExit(f"{errors[-3000:]}\nThis has failed: {command}")
        seconds = time.monotonic() - begin
        starts = len(list(pathlib.Path(folder).glob("*.pid")))
        print_head(f"{KILLED_WORKERS} workers, of which one is killed", "")
        print_row("seconds", f"{seconds:.0f}")
        print_row("kills", kills)
        print_row("restarts", starts - KILLED_WORKERS)
        for name, value in checked(folder, KILLED_BOUND).items():
            print_row(name, value)


def _kill_in_turns(job, folder):
    """Kills all workers but the chief, in turns; returns how often."""
    kills, next_kill = 0, None
    while job.poll() is None:
        time.sleep(0.1)
        living = {}
        for path in sorted(folder.glob("*.pid"), key=os.path.getmtime):
            worker, pid = map(int, path.stem.split("-"))
            living[worker] = pid
        if next_kill is None:
            if len(living) == KILLED_WORKERS:
                next_kill = time.monotonic() + KILL_EVERY
        elif time.monotonic() > next_kill:
            try:
                os.kill(
                    living[1 + kills % (KILLED_WORKERS - 1)], signal.SIGKILL
                )
                kills += 1
                next_kill += KILL_EVERY
            except ProcessLookupError:
                # It is not there again.
                continue
    return kills


def print_price(names, bounds, counts, seeds, epochs):
    from apart.price import described, print_prices, spreads

    for task in names:
        print(f"\n### {task}, {epochs} epochs\n")
        print_head(
            *("", "bound", "staleness: mean, largest", "times as fast"),
            *("held-out accuracy", "held-out loss"),
            *("accuracy at a lower rate", "loss at a lower rate"),
        )
        print_prices(task, bounds, counts, seeds, epochs)
        # The simulation, beside the workers that it is of.
        runs = [_in_real_time(task, seed, epochs) for seed in range(seeds)]
        name, bound = "2 workers, in real time", CHECKED_BOUND
        print_row(name, bound, described(runs), "", *spreads(runs), "", "")


def _in_real_time(task, seed, epochs):
    command = [
        *(*LAUNCH, "--workers", "2", WORKER),
        *("task", task, seed, epochs, CHECKED_BOUND),
    ]
    result = subprocess.run(
        list(map(str, command)),
        env={**os.environ, **thread_variables(1)},
        capture_output=True,
        text=True,
    )
    if result.returncode:
        raise SystemExit(f"{result.stderr[-3000:]}\nThis has failed: {command}")
    return json.loads(result.stdout[result.stdout.index("{") :])


def print_exchange(networks, rounds):
    print_head(
        *("network", "", "ms per update", "more", "MB over loopback"),
    )
    for network, count in networks.items():
        players = {
            name: Counted(
                [sys.executable, WORKER, "steps", way, network],
                [{**WHERE_UNSET, **thread_variables(1)}],
            )
            for name, way in (
                ("MirroredStrategy", "synchronous"),
                ("AsynchronousStrategy", "4"),
            )
        }
        with ready(players):
            answers = in_turns(players, count, rounds)
        seconds = {
            name: [1e3 * each[0]["seconds"] / count for each in of_rounds]
            for name, of_rounds in answers.items()
        }
        least = statistics.median(seconds["MirroredStrategy"])
        for name, of_rounds in answers.items():
            taken = statistics.median(seconds[name])
            sent = statistics.median(each[0]["bytes"] for each in of_rounds)
            print_row(
                network,
                name,
                f"{taken:.1f}",
                f"{taken - least:.1f}" if taken != least else "",
                f"{sent / count / 1e6:.1f}",
            )


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    flag = parser.add_argument
    flag("parts", nargs="*", help=f"of {', '.join(PARTS)} [all]")
    flag("--quick", action="store_true", help="less of each, and rougher")
    flag("--rounds", type=int, help="turns of each contestant")
    flag("--bounds", type=int, nargs="+", help="[0 1 2 4 8]")
    flag("--minutes", type=float, help="how long to kill workers [3]")
    flag("--task", choices=TASKS, help="one of the two [both]")
    flag("--seeds", type=int, help=f"runs of each task [{SEEDS}]")
    flag("--epochs", type=int, help=f"of the tasks [{EPOCHS}]")
    arguments = parser.parse_args()
    parts = arguments.parts or PARTS
    if unknown := set(parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}")
    quick = arguments.quick
    bounds = arguments.bounds or ((0, 4) if quick else BOUNDS)
    rounds = arguments.rounds or (1 if quick else 3)
    if "slow" in parts:
        print("\n## One of two workers slow\n")
        print_slow(bounds, rounds, BATCHES // 2 if quick else BATCHES)
    if "killed" in parts:
        print("\n## Workers killed\n")
        print_killed(arguments.minutes or (0.7 if quick else 3))
    if "price" in parts:
        print("\n## The price")
        print_price(
            [arguments.task] if arguments.task else TASKS,
            bounds,
            PRICE_WORKERS[:1] if quick else PRICE_WORKERS,
            arguments.seeds or (1 if quick else SEEDS),
            arguments.epochs or (2 if quick else EPOCHS),
        )
    if "exchange" in parts:
        print("\n## An exchange\n")
        networks = dict(list(NETWORKS.items())[:1]) if quick else NETWORKS
        print_exchange(networks, rounds)


if __name__ == "__main__":
    main()
