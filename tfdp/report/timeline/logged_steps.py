"""What the log of a run says of single steps, by the chief's clock."""

import bisect
import dataclasses
import json
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

LOG = "timeline.jsonl"
_NUMBER = int | float
# Of each list of a line: the types of its entries' parts.
_ENTRIES: Mapping[str, tuple[Any, ...]] = {
    "steps": (int, int, int, int, int),
    "batches": (int, int, int, int | None, int),
    "states": (str, int, int),
}


@dataclasses.dataclass(frozen=True)
class Spans:
    """What a worker has told of at once; microseconds of its own clock.

    Attributes:
        worker: Its index.
        origin: Where its times count from: seconds of the chief's clock.
        steps: Number, begin, data asked for, end, whether it made a graph.
        batches: Number of the step, data there, gradients there, reduced or
            `None`, replica of the worker.
        states: Name, begin, end.
    """

    worker: int
    origin: float
    steps: Sequence[tuple[int, int, int, int, int]]
    batches: Sequence[tuple[int, int, int, int | None, int]]
    states: Sequence[tuple[str, int, int]]


@dataclasses.dataclass(frozen=True)
class LoggedFit:
    """What a fit has told of single steps.

    Attributes:
        workers: How many there were.
        every: Of how many steps one is told of, after the first ones.
        spans: By whom and when.
        clocks: How clocks were seen to differ: the chief's time, seconds by
            which each is ahead, and by which that may be wrong.
    """

    workers: int
    every: int
    spans: list[Spans] = dataclasses.field(default_factory=list)
    clocks: list[tuple[float, list[float], list[float]]] = dataclasses.field(
        default_factory=list
    )

    def offset(self, worker: int, time: float) -> float:
        """Returns by how many seconds a worker's clock was ahead.

        Args:
            worker: The worker.
            time: When, by that clock; between two comparisons it is taken to
                drift evenly.
        """
        if not self.clocks:
            return 0.0
        known = [offsets[worker] for _, offsets, _ in self.clocks]
        times = [
            when + ahead
            for (when, _, _), ahead in zip(self.clocks, known, strict=True)
        ]
        after = bisect.bisect(times, time)
        if after in (0, len(times)):
            return known[max(after - 1, 0)]
        begin, end = times[after - 1 : after + 1]
        share = (time - begin) / (end - begin)
        return known[after - 1] + share * (known[after] - known[after - 1])

    def error(self, worker: int) -> float | None:
        """Returns by how much that may be wrong; `None` where not known."""
        if not self.clocks:
            return 0.0 if self.workers == 1 else None
        return max(errors[worker] for _, _, errors in self.clocks)


def logged_steps(folder: str | os.PathLike[str]) -> list[LoggedFit]:
    """Reads what the fits of a run have told of single steps.

    Args:
        folder: Folder of the run.

    Returns:
        The fits, in the order in which they have begun.

    Raises:
        ValueError: If nothing is told, or a line is malformed, other than a
            last one cut in half.
    """
    path = pathlib.Path(folder, LOG)
    if not path.is_file():
        what = f"no {LOG} in it" if path.parent.is_dir() else "no such folder"
        raise ValueError(
            f"A timeline needs the log of single steps, {LOG}. Received: "
            f"{path.parent} ({what}). Train with `callbacks.ThroughputMonitor` "
            "and after it `callbacks.RunLogger`, whose `timeline` is above 0; "
            "logs of a tfdp before 0.1.0 have none."
        )
    fits: list[LoggedFit] = []
    for place, line in _lines(path):
        try:
            _take(line, fits)
        except (KeyError, TypeError, ValueError) as error:
            raise _malformed(path, place, repr(error)) from None
    if not any(fit.spans for fit in fits):
        raise ValueError(
            f"The log of single steps must have some. Received: none in "
            f"{path}. Give the folder of a run that has ended a window of "
            "`callbacks.ThroughputMonitor`, or an epoch."
        )
    return fits


def _lines(path: pathlib.Path) -> Iterator[tuple[int, Any]]:
    *lines, last = path.read_bytes().split(b"\n")
    for place, text in enumerate([*lines, last], start=1):
        try:
            yield place, json.loads(text)
        except (ValueError, RecursionError) as error:
            # Cut in half, or not there: the file ends with a line break.
            if place <= len(lines):
                raise _malformed(path, place, str(error)) from None


def _malformed(path: pathlib.Path, place: int, problem: str) -> ValueError:
    return ValueError(
        "Every line of a log of single steps must be one that "
        f"`callbacks.RunLogger` has written. Received: {path}, line {place}: "
        f"{problem:.100}. Mend or remove that line."
    )


def _take(line: Any, fits: list[LoggedFit]) -> None:
    kind = line["kind"]
    if kind == "fit":
        fits.append(LoggedFit(_count(line["workers"]), _count(line["every"])))
        return
    workers, time = fits[-1].workers if fits else 0, line["time"]
    if not isinstance(time, _NUMBER) or not 0 <= time < 1e11:
        raise ValueError(f"time {time!r}")
    if kind == "clocks":
        found = line["offsets"], line["errors"]
        for each in found:
            if len(each) != workers or not all(
                isinstance(x, _NUMBER) for x in each
            ):
                raise ValueError(f"of {workers} workers {each!r}")
        fits[-1].clocks.append((time, *found))
    if kind == "spans":
        if not 0 <= line["worker"] < workers:
            raise ValueError(f"worker {line['worker']!r} of {workers}")
        lists = {name: _entries(line[name], name) for name in _ENTRIES}
        fits[-1].spans.append(Spans(int(line["worker"]), time, **lists))


def _count(value: Any) -> int:
    if not isinstance(value, int) or not 0 < value < 1_000_000:
        raise ValueError(f"{value!r} is no count")
    return value


def _entries(values: Any, name: str) -> list[Any]:
    types = _ENTRIES[name]
    for value in values:
        if len(value) != len(types) or not all(map(isinstance, value, types)):
            raise ValueError(f"{value!r} among {name}")
    return [tuple(value) for value in values]
