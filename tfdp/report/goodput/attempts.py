"""What the log of a run says of the starts and ends of its workers."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from tfdp.report.goodput.attempt import Attempt
from tfdp.report.goodput.goodput import Goodput
from tfdp.report.log_lines import LOG, Line, number

_KINDS = ("start", "spent", "loss", "exit")
_LATEST = 253_402_300_799.0  # The last second of the year 9999.


class LoggedAttempts:
    """Reads the starts of a job's workers from the log of its run.

    Lines that are damaged are passed over, and told of.

    Args:
        folder: Folder of the log, `run.jsonl`.

    Attributes:
        attempts: All of them, in the order of the log.
        complaints: A sentence for each line that could not be used.

    Raises:
        ValueError: If there is no such log.

    Example:

    >>> import tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> lines = [
    ...     {"kind": "start", "time": 5.0, "attempt": "a", "workers": 2},
    ...     {"kind": "exit", "time": 9.0, "attempt": "a", "made": 3},
    ... ]
    >>> text = "\\n".join(map(json.dumps, lines))
    >>> (folder / "run.jsonl").write_text(text + "\\n") > 0
    True
    >>> LoggedAttempts(folder).attempts[0].seconds
    4.0
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """Reads the log."""
        self.complaints: list[str] = []
        self._found: dict[str, Attempt] = {}
        self._have_ended: set[str] = set()
        path = pathlib.Path(folder, LOG)
        if not path.is_file():
            raise ValueError(
                f"A run must be a folder with its log, {LOG}. Received: "
                f"{path.parent} (no {LOG} in it). Give a folder that the log "
                "was written to."
            )
        for place, line in self._lines(path):
            if problem := self._take(line):
                self._complain(path, place, problem)
        self.attempts = list(self._found.values())

    def _lines(self, path: pathlib.Path) -> Iterator[tuple[int, Line]]:
        *lines, last = path.read_bytes().split(b"\n")
        for place, text in enumerate([*lines, last], start=1):
            if not text.strip():
                continue
            try:
                line = json.loads(text)
            except (ValueError, RecursionError) as error:
                # A last one that was cut in half is no surprise.
                if place <= len(lines):
                    self._complain(path, place, f"{error}")
                continue
            if isinstance(line, dict) and line.get("kind") in _KINDS:
                yield place, line

    def _complain(self, path: pathlib.Path, place: int, problem: str) -> None:
        self.complaints.append(
            "A line on starts and ends must be a JSON object with a time and "
            f"what is known then. Received: {path}, line {place}: {problem}. "
            "It is passed over."
        )

    def _take(self, line: Line) -> str:
        """Takes note of a line; returns what is wrong with it."""
        name, time = line.get("attempt"), number(line, "time")
        if not isinstance(name, str):
            return f'"attempt" is {name!r:.50}'
        if time is None or not 0 <= time <= _LATEST:
            return f'"time" is {line.get("time")!r:.50}'
        if line["kind"] == "start":
            return self._start(name, time, line)
        found = self._found.get(name)
        if found is None:
            return f"nothing before it says when {name!r:.50} started"
        if line["kind"] == "loss":
            self._found[name] = dataclasses.replace(found, lost=time)
            return ""
        try:
            known = _known(line)
        except ValueError as error:
            return str(error)
        # Who survives the workers knows their end.
        if line["kind"] == "exit" or name not in self._have_ended:
            ended = max(time, found.started)
            self._found[name] = dataclasses.replace(found, ended=ended, **known)
        if line["kind"] == "exit":
            self._have_ended.add(name)
        return ""

    def _start(self, name: str, time: float, line: Line) -> str:
        launched, workers = number(line, "launched"), number(line, "workers")
        found = self._found.get(name)
        if found is None:
            found = Attempt(time, time)
        self._found[name] = dataclasses.replace(
            found,
            started=min(time, found.started),
            ended=max(time, found.ended),
            launched=found.launched if launched is None else launched,
            workers=int(workers or found.workers),
        )
        return ""


def logged_goodput(
    folder: str | os.PathLike[str],
) -> tuple[Goodput | None, list[str]]:
    """Returns the goodput of a run, as its log tells it.

    Args:
        folder: Folder of the log, `run.jsonl`.

    Returns:
        The goodput, `None` where the log says nothing of it, as older ones do,
        and a sentence for each line that could not be used.

    Raises:
        ValueError: If there is no such log.
    """
    logged = LoggedAttempts(folder)
    known = any(each.spent for each in logged.attempts)
    goodput = Goodput.of(logged.attempts) if known else None
    return goodput, logged.complaints


def _known(line: Line) -> dict[str, Any]:
    counts = {
        key: _number(line, key, least, default)
        for key, least, default in (("update", -1, -1), ("made", 0, 0))
    }
    return {
        **{key: int(count) for key, count in counts.items()},
        "unfinished": _number(line, "unfinished", 0, 0),
        "spent": _spent(line),
    }


def _number(line: Line, key: str, least: float, default: float) -> float:
    value = number(line, key) if key in line else default
    if value is None or not least <= value <= _LATEST:
        raise ValueError(f'"{key}" is {line[key]!r:.50}')
    return value


def _spent(line: Line) -> dict[str, float]:
    spent = line.get("spent", {})
    if not isinstance(spent, Mapping):
        raise ValueError(f'"spent" is {spent!r:.50}')
    return {state: _number(spent, state, 0, 0) for state in spent}
