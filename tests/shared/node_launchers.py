"""Launchers of several machines, all of them on this one."""

import os
import random
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time

import psutil

# Each second an update, which its board says; SIGTERM as by a backup.
HEAD = """
import json, os, pathlib, signal, sys, time
from tfdp.board import own_board
cluster = json.loads(os.environ['TF_CONFIG'])
index, size = cluster['task']['index'], len(cluster['cluster']['worker'])
attempt = int(os.environ['TFDP_RESTART_COUNT'])
folder = pathlib.Path(__file__).parent
print('attempt', attempt, 'of', size, flush=True)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

def train(until):
    update = 0
    while not (folder / until).exists():
        own_board().note(update=update, made=1)
        update += 1
        time.sleep(0.1)
"""


def free_block(size):
    """A port that is free, with those that follow."""
    while True:
        # Below those that the system hands out by itself.
        port = random.SystemRandom().randrange(12000, 32000 - size)
        try:
            for each in range(port, port + size):
                with socket.create_server(("127.0.0.1", each)):
                    pass
        except OSError:
            continue
        return port


class Machines:
    """Launchers, each as if it were on a machine of its own.

    Args:
        folder: For the script and what they print.
        code: The script, after `HEAD`.
        count: How many machines.
        slots: Workers of each.
        options: Other options of all launchers.
    """

    def __init__(self, folder, code, *, count=2, slots=1, least=1, options=()):
        self.folder = folder
        self.script = folder / "script.py"
        self.script.write_text(HEAD + textwrap.dedent(code))
        first = free_block(10 * count)
        self.addresses = [
            f"127.0.0.1:{first + 10 * rank}" for rank in range(count)
        ]
        self.options = ["--workers", f"{least}:{count * slots}", *options]
        self.running = {}
        self.logs = {}

    def start(self, rank, *, script=None, args=(), env=None, workers=None):
        """Starts the launcher of a machine."""
        name = f"{rank}.{len(self.logs)}"
        self.logs[name] = self.folder / f"{name}.log"
        command = [sys.executable, "-m", "tfdp.cli", "launch", *self.options]
        if workers:
            command += ["--workers", workers]
        command += ["--nodes", ",".join(self.addresses), "--node-rank", rank]
        command += [script or self.script, *args]
        with self.logs[name].open("w") as log:
            self.running[name] = subprocess.Popen(
                list(map(str, command)),
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )
        return name

    def said(self, name):
        """What a launcher has printed so far."""
        return self.logs[name].read_text()

    def hear(self, name, text, seconds=40):
        """Waits until it has printed a text."""
        deadline = time.monotonic() + seconds
        while not re.search(text, self.said(name)):
            if time.monotonic() > deadline:
                raise AssertionError(f"no {text!r} in {self.all_said()}")
            time.sleep(0.05)

    def all_said(self):
        return "\n".join(f"-- {n}:\n{self.said(n)}" for n in self.logs)

    def kill(self, name, number=signal.SIGKILL):
        """Sends a launcher a signal."""
        self.running[name].send_signal(number)

    def workers(self, name):
        """Processes of a launcher that run the script."""
        children = psutil.Process(self.running[name].pid).children()
        return [p for p in children if str(self.script) in p.cmdline()]

    def end(self):
        """Has the scripts end, that train until then."""
        (self.folder / "end").touch()

    def wait(self, name, seconds=60):
        """Returns the exit code of a launcher."""
        try:
            return self.running[name].wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(self.all_said()) from None

    def close(self):
        """Kills those that are left."""
        for process in self.running.values():
            process.kill()
            process.wait()
