"""A job of `tfdp launch`, of which is known what it and its workers print."""

import collections
import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time

import psutil

SCRIPT = pathlib.Path(__file__).with_name("soak_training.py")
ORDERS = "orders"
# How many the script trains on, and what an update takes one worker.
SAMPLES, UPDATE_SECONDS = 4411, 0.16
STALL_SECONDS, START_SECONDS = 5, 30
# A job that neither fails nor goes on for so long has hung for good.
PATIENCE_SECONDS = 180

BEGINS = re.compile(r"\[worker (\d+)\] begins (\{.*\})")
UPDATE = re.compile(r"\[worker 0\] update (\d+) of (\d+) in (\d+)")
OBEYS = re.compile(r"\[worker (\d+)\] obeys: (.*)")
END = re.compile(
    r"Worker \d+ (was killed by \w+|has been stopped|has made no progress|"
    r"failed with exit code \d+)"
)

Update = collections.namedtuple("Update", "moment number size attempt")
End = collections.namedtuple("End", "moment words")


class Job:
    """A training under `tfdp launch`, whose output is read as it comes.

    Attributes:
        attempts: Process ids of the workers of each attempt, by worker.
        updates: All that were made.
        ends: How attempts have failed, as the launcher says.
        lines: What was said after how many seconds, but for most updates.
        sizes: Bytes of memory and open files of the launcher and of what it
            forks workers from, again and again.
    """

    def __init__(self, folder, optimizer, epochs, log=None):
        self.attempts = collections.defaultdict(dict)
        self.updates, self.ends, self.lines = [], {}, []
        self.sizes, self._folders, self._obeyed = [], set(), set()
        self._log = log
        self._changed = threading.Condition()
        self._started, self._told = time.monotonic(), -1
        self._orders = folder / ORDERS
        self._temporary = folder / "temporary"
        self._orders.mkdir()
        self._temporary.mkdir()
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tfdp.cli", "launch"),
                *("--workers", "1:2", "--on-stall", "restart"),
                *("--stall-seconds", str(STALL_SECONDS)),
                *("--start-timeout", str(START_SECONDS)),
                *("--log-dir", folder / "logs"),
                *(SCRIPT, folder, optimizer, str(epochs)),
            ],
            env={**os.environ, "TMPDIR": str(self._temporary)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if self.is_over:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()

    @property
    def is_over(self):
        return self._process.poll() is not None

    @property
    def attempt(self):
        return max(self.attempts, default=-1)

    @property
    def workers(self):
        """Process ids of those that live, as far as is known."""
        if self.attempt in self.ends or self.is_over:
            return {}
        return dict(self.attempts.get(self.attempt, {}))

    def wait_for(self, condition, seconds=PATIENCE_SECONDS):
        """Waits until something holds, or the job is over."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while not condition() and not self.is_over:
                if time.monotonic() > deadline:
                    said = "\n".join(self.lines[-60:])
                    raise AssertionError(f"Nothing for {seconds} s:\n{said}")
                self._changed.wait(0.1)

    def order(self, worker, pid, text):
        """Has a worker do something; waits until it does."""
        attempt = self.attempt
        draft = self._orders / "draft"
        draft.write_text(text)
        draft.rename(self._orders / str(pid))
        self.wait_for(
            lambda: (attempt, worker) in self._obeyed or not self.is_at(attempt)
        )
        return (attempt, worker) in self._obeyed

    def is_at(self, attempt):
        """Whether an attempt goes on."""
        return attempt == self.attempt and attempt not in self.ends

    def note(self, line, now=None):
        """Adds a line to those that were said."""
        seconds = (now or time.monotonic()) - self._started
        self.lines.append(f"{seconds:7.2f} {line}")
        if self._log:
            print(self.lines[-1], file=self._log, flush=True)

    def updates_since(self, moment):
        return sum(each.moment > moment for each in self.updates)

    def measure(self):
        """Notes the sizes of what lives as long as the job."""
        # Others of its children come and go.
        with contextlib.suppress(psutil.Error):
            launcher = psutil.Process(self._process.pid)
            lasting = [launcher] + [
                each
                for each in launcher.children()
                if any(part.endswith("forking.py") for part in each.cmdline())
            ]
            self.sizes.append(
                [(each.memory_info().rss, each.num_fds()) for each in lasting]
            )

    def exit_code(self):
        """Waits for the end."""
        code = self._process.wait()
        self._reader.join()
        return code

    def left(self, seconds=5):
        """Processes, folders and files that have outlived the job.

        Not those of TensorFlow's AutoGraph, which a killed process leaves.
        """
        deadline = time.monotonic() + seconds
        while self._processes() and time.monotonic() < deadline:
            time.sleep(0.1)
        files = [
            *filter(os.path.exists, self._folders),
            *map(str, self._temporary.iterdir()),
        ]
        return self._processes() + [
            each for each in files if "__autograph_generated_file" not in each
        ]

    def _processes(self):
        return [
            f"process {each.pid}: {' '.join(each.info['cmdline'] or [])}"
            for each in psutil.process_iter(["environ", "cmdline", "status"])
            if (each.info["environ"] or {}).get("TMPDIR")
            == str(self._temporary)
            and each.info["status"] != psutil.STATUS_ZOMBIE
        ]

    def _read(self):
        with self._process.stdout as output:
            for line in output:
                with self._changed:
                    self._hear(time.monotonic(), line.rstrip("\n"))
                    self._changed.notify_all()

    def _hear(self, now, line):
        if found := UPDATE.fullmatch(line):
            update = Update(now, *map(int, found.groups()))
            self.updates.append(update)
            if update.attempt == self._told:
                return
            self._told = update.attempt
        self.note(line, now)
        if found := BEGINS.fullmatch(line):
            about = json.loads(found[2])
            self.attempts[about["attempt"]][int(found[1])] = about["pid"]
            self._folders.update(about["folders"])
        elif found := OBEYS.fullmatch(line):
            self._obeyed.add((self.attempt, int(found[1])))
        elif found := END.match(line):
            self.ends[self.attempt] = End(now, found[1])
