"""How long a training takes from the death of a worker to its next update.

    python benchmarks/quick_return.py [--quick]

Two workers train a network, and one of them is killed by SIGKILL; once they
have made more updates, the other one. All save a backup every 10 updates, and
are started again by who watches them: tfdp by `tfdp launch`, PyTorch's
DistributedDataParallel by `torchrun --max-restarts`, and Keras, in one process,
as its `fit` on several fails, by a loop of the shell. The time ends with the
first update that is made after the kill. Then it is started anew for the next
round; contestants take turns. The tables show medians and ranges, how many
updates were lost, and, as the launcher of tfdp says it, where the time of the
kill in the middle went.
"""

import argparse
import contextlib
import os
import pathlib
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

from harness.stamps import stamps
from harness.table import print_head, print_row
from peers import python_of, version_of

BENCHMARKS = pathlib.Path(__file__).parent
NETWORKS = ("convolutional", "dense")
TFDP = {
    "tfdp": ["--workers", "1:2"],
    "tfdp, --no-preload": ["--workers", "1:2", "--no-preload"],
    "tfdp, --max-restarts 2": ["--workers", "2", "--max-restarts", "2"],
}
CONTESTANTS = (*TFDP, "torchrun", "Keras, one process")
# Who is killed, one after the other.
KILLED = (1, 0)
UPDATES, PATIENCE, POLL = 25, 180, 0.02
LINE = re.compile(r"update \d+ after ([\d.]+) s: (.*)")


class Kill(NamedTuple):
    """What has followed a kill: seconds, updates lost, and its parts."""

    seconds: float
    lost: int
    parts: dict


def command(contestant, network, folder):
    """Returns what a user would start."""
    if contestant == "torchrun":
        return [
            *(python_of("torch"), "-m", "torch.distributed.run"),
            *("--standalone", "--nproc-per-node", "2", "--max-restarts", "2"),
            *(BENCHMARKS / "quick_return_torch.py", network, folder),
        ]
    worker = [BENCHMARKS / "quick_return_worker.py", network, folder]
    if contestant in TFDP:
        launch = [sys.executable, "-m", "tfdp.cli", "launch"]
        return [*launch, *TFDP[contestant], *worker]
    loop = ["sh", "-c", 'until "$@"; do :; done', "sh"]
    return [*loop, sys.executable, *worker]


@contextlib.contextmanager
def started(contestant, network, folder, log):
    environment = {
        **os.environ,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        # Without it, workers of torch 2.13 that are started again find the
        # addresses of those before, and fail.
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
    }
    process = subprocess.Popen(
        list(map(str, command(contestant, network, folder))),
        env=environment,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if contestant in CONTESTANTS[:-1]:
            # They end their workers, which are in sessions of their own.
            process.terminate()
        else:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=PATIENCE)


def waited(found, process, log):
    """Returns what a function finds, once it is something."""
    end = time.monotonic() + PATIENCE
    while not (result := found()):
        if time.monotonic() > end or process.poll() is not None:
            log.seek(0)
            last = "".join(log.readlines()[-20:])
            raise SystemExit(f"{last}\nThis does not train on.")
        time.sleep(POLL)
    return result


def kill(rank, before, folder, process, log):
    """Kills a worker that has trained for a while, and waits for an update.

    Args:
        rank: The worker, of those that there are.
        before: Ids of processes that were killed, or have fallen, before.
        folder: Where the stamps are.
        process: Who watches the workers.
        log: What that has printed.

    Returns:
        The kill, and the ids of all processes that trained before it.
    """

    def of_now():
        return [s for s in stamps(folder) if s.pid not in before]

    def trained():
        own = [s for s in of_now() if s.rank == rank or rank is None]
        return own if len(own) >= UPDATES else None

    pid = waited(trained, process, log)[-1].pid
    moment = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    # Another one may stamp an update that is being made.
    last = [s for s in of_now() if s.when <= moment]
    fallen = before | {s.pid for s in last}

    def returned():
        return [s for s in stamps(folder) if s.pid not in fallen]

    first = waited(returned, process, log)[0]
    lost = max(s.update for s in last) - first.update + 1
    return Kill(first.when - moment, lost, {}), fallen


def measure(contestant, network):
    """Returns the kills of one start."""
    kills, before = [], frozenset()
    with (
        tempfile.TemporaryDirectory() as folder,
        tempfile.TemporaryFile("w+") as log,
    ):
        with started(contestant, network, folder, log) as process:
            for rank in KILLED:
                which = rank if contestant in CONTESTANTS[:-1] else None
                made, before = kill(which, before, folder, process, log)
                kills.append(made)
            # Where it is told of, it is by now, or soon.
            time.sleep(0.5)
        log.seek(0)
        told = LINE.findall(log.read()) or [("", "")] * len(KILLED)
    return [
        made._replace(parts=parts_of(*found))
        for made, found in zip(kills, told, strict=True)
    ]


def parts_of(whole, words):
    """Returns the seconds that a line of the launcher tells, by name."""
    if not whole:
        return {}
    parts = [part.split(" ", 1) for part in words.split(", ")]
    return {"whole": float(whole)} | {n: float(x) for x, n in parts}


def print_parts(made):
    """Prints where the time went, of the kill in the middle of each."""
    middle = {
        key: sorted(kills)[len(kills) // 2].parts
        for key, kills in made.items()
        if kills[0].parts
    }
    names = dict.fromkeys(n for parts in middle.values() for n in parts)
    print()
    print_row("network", "", *names)
    print_row(*["---"] * (len(names) + 2))
    for key, parts in middle.items():
        print_row(*key, *(f"{parts.get(name, 0):.2f}" for name in names))


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS)
    parser.add_argument("--only", nargs="+", choices=CONTESTANTS)
    parser.add_argument("--rounds", type=int, help="of two kills each")
    arguments = parser.parse_args()
    networks = arguments.networks or NETWORKS[: 1 if arguments.quick else None]
    names = arguments.only or CONTESTANTS
    rounds = arguments.rounds or (1 if arguments.quick else 5)
    made = {(n, name): [] for n in networks for name in names}
    for number in range(rounds):
        for network, name in list(made)[:: 1 if number % 2 == 0 else -1]:
            made[network, name] += measure(name, network)
    print_head(
        *("network", "", "s to the next update", "updates lost"),
        more=[version_of("torch")] if "torchrun" in names else (),
    )
    for key, kills in made.items():
        seconds = [each.seconds for each in kills]
        lost = [each.lost for each in kills]
        low, high = min(seconds), max(seconds)
        print_row(
            *key,
            f"{statistics.median(seconds):.2f} ({low:.2f} to {high:.2f})",
            f"{statistics.median(lost):g} ({min(lost)} to {max(lost)})",
        )
    if set(names) & set(TFDP):
        print_parts(made)


if __name__ == "__main__":
    main()
