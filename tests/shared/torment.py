"""Who throws faults at the workers of a job."""

import dataclasses
import os
import random
import signal
import time

# A worker throws the others at itself, see `soak_training.py`.
SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}
KINDS = ("kill", "hang", "kill", "cut", "kill", "stop")
SURVIVED_UPDATES = 20


@dataclasses.dataclass
class Fault:
    """One that was thrown at a worker of an attempt."""

    kind: str
    worker: int
    attempt: int
    moment: float


class Tormentor:
    """Throws faults at random workers, until it has no more or the job ends.

    The next one comes when it is known what has become of the last, be that
    while workers start again.

    Args:
        job: The job.
        kinds: Of the faults, in order.
        every: Seconds between two, on average.
        seed: Of what is drawn. Defaults to 0.

    Attributes:
        faults: Those that were thrown.
    """

    def __init__(self, job, kinds, every, seed=0):
        self._job = job
        self._kinds = kinds
        self._every = every
        self._chance = random.Random(seed)
        self.faults = []

    def run(self):
        self._job.wait_for(lambda: self._job.updates)
        self._job.measure()
        last = time.monotonic()
        for kind in self._kinds:
            pause = self._chance.uniform(0.2, 1.8) * self._every
            while time.monotonic() < last + pause and not self._job.is_over:
                time.sleep(0.05)
            fault = None
            while fault is None and not self._job.is_over:
                fault = self._throw(kind)
            if fault is None:
                return
            self._job.note(f"=== {kind} of worker {fault.worker} ===")
            self.faults.append(fault)
            last = fault.moment
            self._job.wait_for(lambda fault=fault: self._is_known(fault))

    def _throw(self, kind):
        job = self._job
        # One worker has no connections to others.
        least = 2 if kind == "cut" else 1
        job.wait_for(lambda: len(job.workers) >= least)
        if job.is_over:
            return None
        job.measure()
        attempt, workers = job.attempt, job.workers
        if not workers:
            return None
        worker, pid = self._chance.choice(sorted(workers.items()))
        if kind not in SIGNALS:
            text = kind
            if kind == "hang":
                text += self._chance.choice([" input", " callback"])
            if not job.order(worker, pid, text):
                return None
        else:
            try:
                os.kill(pid, SIGNALS[kind])
            except ProcessLookupError:
                return None
        return Fault(kind, worker, attempt, time.monotonic())

    def _is_known(self, fault):
        return (
            not self._job.is_at(fault.attempt)
            or self._job.updates_since(fault.moment) >= SURVIVED_UPDATES
        )
