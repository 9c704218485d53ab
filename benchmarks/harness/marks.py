"""Moments of a worker's start, for who has started it to read."""

import json
import os
import pathlib
import time


class Marks:
    """Notes when a worker has come how far, and the CPU time until then.

    Args:
        folder: Where `worker-RANK.json` will be.
    """

    def __init__(self, folder):
        self._folder = pathlib.Path(folder)
        self._marks = []
        self.note("starting")

    def note(self, part):
        """Notes the end of a part."""
        self._marks.append((part, time.time(), time.process_time()))

    def write(self, rank):
        """Leaves what was noted, once."""
        path = self._folder / f"worker-{rank}.json"
        if not path.exists():
            written = path.with_suffix(".new")
            written.write_text(json.dumps(self._marks))
            os.replace(written, path)


def parts_of(folder, begun):
    """Returns wall and CPU seconds of each part, and of all: the last worker's.

    Args:
        folder: Where the workers wrote.
        begun: When they were started, by `time.time`.
    """
    workers = [
        json.loads(path.read_text())
        for path in sorted(pathlib.Path(folder).glob("worker-*.json"))
    ]
    last = max(workers, key=lambda marks: marks[-1][1])
    parts, when, used = {}, begun, 0.0
    for name, moment, cpu in last:
        parts[name] = (moment - when, cpu - used)
        when, used = moment, cpu
    whole = when - begun, sum(marks[-1][2] for marks in workers) / len(workers)
    return parts, whole
