"""Fails one of two workers in every way, and sees what becomes of the job.

`python tests/shared/failures.py` prints a table; `--gloo` has gradients travel
by it; `--soak` kills a random worker over and over through one training.
"""

import argparse
import dataclasses
import functools
import itertools
import json
import os
import pathlib
import random
import signal
import sys
import tempfile
import time

import numpy as np
import psutil

from tfdp.launching import ForkServer, WorkerGroup, worker_variables

SCRIPT = pathlib.Path(__file__).with_name("faulty.py")
FAULTS = ("SIGKILL", "SIGSTOP", "exception", "early end")
PHASES = ("start", "step", "validation", "saving")


@dataclasses.dataclass(frozen=True)
class Case:
    """A fault, who has it, and what is going on meanwhile."""

    fault: str
    worker: int
    phase: str

    def __str__(self):
        who = "chief" if self.worker == 0 else "other"
        return f"{self.fault}, {who}, {self.phase}"


@dataclasses.dataclass(frozen=True)
class Result:
    """What became of a job.

    Attributes:
        seconds: From the fault until no worker was left.
        message: What the launcher says.
        left: Processes left running.
        weights: After a second start has trained to the end.
        folders: Those that a worker has written backups to.
    """

    seconds: float
    message: str
    left: int
    weights: dict
    folders: list


CASES = (
    [Case(*each) for each in itertools.product(FAULTS, (0, 1), PHASES)]
    + [
        Case("SIGTERM", worker, phase)
        for worker, phase in itertools.product((0, 1), ("step", "validation"))
    ]
    + [
        Case(fault, worker, "start")
        for fault in ("missing peer", "port in use")
        for worker in (0, 1)
    ]
)


# Of so many that they are worth sending.
GLOO = {"TFDP_COMMUNICATION": "gloo", "FAULTY_WIDTH": "10000"}


@functools.cache
def server():
    return ForkServer(["keras", "tfdp.callbacks"], worker_variables())


def run(folder, *arguments, timeout=120, server=None):
    """Runs the training once; returns the failure, and all output."""
    lines = []
    with WorkerGroup(
        [sys.executable, "-u", str(SCRIPT), str(folder), *arguments],
        2,
        env={"TFDP_START_TIMEOUT": "6"},
        on_line=lambda worker, line: lines.append(line),
        server=server,
    ) as group:
        failure = group.wait(timeout)
    return failure, "\n".join(lines)


def weights_in(folder):
    weights = json.loads((folder / "weights.json").read_text())
    return {name: np.array(value) for name, value in weights.items()}


def processes_of(folder):
    """Number of processes of a job, also of those whose parent has ended."""
    return sum(
        str(folder) in (process.info["cmdline"] or [])
        and process.info["status"] != psutil.STATUS_ZOMBIE
        for process in psutil.process_iter(["cmdline", "status"])
    )


def result_of(case):
    """Lets a job fail, and starts it again."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        failure, output = run(folder, str(case.worker), case.phase, case.fault)
        ended = time.time()
        left = processes_of(folder)
        if failure is None:
            raise AssertionError(f"{case}: nothing failed.\n{output}")
        folders = sorted(each.name for each in folder.glob("backups-*"))
        run_again, more = run(folder, server=server())
        if run_again is not None:
            raise AssertionError(f"{case}: {run_again}\n{more}")
        return Result(
            seconds=ended - float((folder / "failed").read_text()),
            message=str(failure),
            left=left,
            weights=weights_in(folder),
            folders=folders,
        )


SLOW = ("-1", "", "slow")


def undisturbed(*arguments):
    with tempfile.TemporaryDirectory() as name:
        failure, output = run(pathlib.Path(name), *arguments, server=server())
        if failure is not None:
            raise AssertionError(f"{failure}\n{output}")
        return weights_in(pathlib.Path(name))


def deviation(weights, others):
    return max(
        float(np.abs(weights[name] - others[name]).max()) for name in others
    )


def soak(kills, seed=0):
    """Kills a random worker at random times; returns the last weights."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        done = attempts = 0
        while not (folder / "weights.json").exists():
            attempts += 1
            backups = folder / "backups-0"
            begun = sorted(backups.glob("*.npz"))
            with WorkerGroup(
                [
                    sys.executable,
                    "-u",
                    str(SCRIPT),
                    str(folder),
                    *SLOW,
                ],
                2,
            ) as group:
                victim = chance.randrange(2)
                deadline = time.monotonic() + 90
                wanted = chance.randint(1, 2)
                while done < kills and time.monotonic() < deadline:
                    made = sorted(set(backups.glob("*.npz")) - set(begun))
                    if made and len(made) >= wanted:
                        time.sleep(chance.random() / 5)
                        group.signal(victim, signal.SIGKILL)
                        done += 1
                        break
                    time.sleep(0.01)
                group.wait(180)
        return done, attempts, weights_in(folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--soak", type=int, metavar="KILLS")
    parser.add_argument("--gloo", action="store_true")
    parser.add_argument("--only", metavar="TEXT", default="")
    arguments = parser.parse_args()
    if arguments.gloo:
        os.environ.update(GLOO)
    if arguments.soak:
        done, attempts, weights = soak(arguments.soak)
        expected = undisturbed(*SLOW)
        print(
            f"{done} kills, {attempts} starts; weights differ from those of "
            f"the undisturbed run by {deviation(weights, expected):.1e}"
        )
        return
    expected = undisturbed()
    results = {}
    for case in [each for each in CASES if arguments.only in str(each)]:
        results[case] = result_of(case)
        print(f"{case}: {results[case].seconds:.1f} s", file=sys.stderr)
    print(f"| Fault | Worker | {' | '.join(PHASES)} |")
    print("| --- " * (2 + len(PHASES)) + "|")
    for fault, worker in dict.fromkeys((c.fault, c.worker) for c in results):
        found = [results.get(Case(fault, worker, phase)) for phase in PHASES]
        cells = [f"{each.seconds:.1f}" if each else "" for each in found]
        who = "chief" if worker == 0 else "other"
        print(f"| {fault} | {who} | {' | '.join(cells)} |")
    left = sum(result.left for result in results.values())
    worst = max(deviation(r.weights, expected) for r in results.values())
    print(f"\nProcesses left: {left}. Weights differ by at most {worst:.0e}.")


if __name__ == "__main__":
    main()
