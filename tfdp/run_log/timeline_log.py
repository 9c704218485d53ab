"""Single steps of a run, written down line by line."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfdp.run_log.diary import Diary
from tfdp.run_log.run_log import RunLog
from tfdp.throughput import Span


class TimelineLog:
    """Appends to `timeline.jsonl` in the folder of a run: for one of its fits.

    `tfdp report --timeline` reads it. A line has a `kind`, and a `time` in
    seconds since 1970:

    | Kind     | When                | Also has                               |
    | -------- | ------------------- | -------------------------------------- |
    | `fit`    | a fit begins        | `workers`, `replicas`, `every`         |
    | `clocks` | they were compared  | `offsets` of all workers to the chief, |
    |          |                     | and their `errors`, in seconds         |
    | `spans`  | a window ends; one  | `worker`, `steps`, `batches`, `states` |
    |          | for each worker     |                                        |

    Steps, micro-batches and states are lists of what `tfdp.throughput.spans`
    has of them, states with their name. Their times are microseconds of the
    worker's clock since `time` by that of the chief; `null` for one that is
    missing.

    Args:
        log_dir: The folder.
        **head: What the line of the fit has.

    Raises:
        ValueError: If the folder cannot be written to.
    """

    def __init__(
        self, log_dir: str | os.PathLike[str], *, time: float, **head: int
    ) -> None:
        """Writes the begin of the fit."""
        self._log = RunLog(log_dir, name="timeline.jsonl")
        self._log.append({"kind": "fit", "time": time, **head})

    def append_clocks(
        self, time: float, offsets: Sequence[float], errors: Sequence[float]
    ) -> None:
        """Writes how clocks differ.

        Args:
            time: The chief's time of the comparison.
            offsets: Seconds by which each is ahead of the chief's.
            errors: By which that may be wrong.
        """
        row = {"offsets": list(offsets), "errors": list(errors)}
        self._log.append({"kind": "clocks", "time": time, **row})

    def append_rows(self, time: float, by_worker: Sequence[np.ndarray]) -> None:
        """Writes what workers have done.

        Args:
            time: The chief's time.
            by_worker: For each worker rows as of `tfdp.throughput.spans`.
        """
        for worker, rows in enumerate(by_worker):
            if len(rows):
                head = {"kind": "spans", "time": time, "worker": worker}
                self._log.append({**head, **_lists(rows, time)})


def _lists(rows: np.ndarray, time: float) -> dict[str, list[Any]]:
    def since(value: float) -> int | None:
        return round(1e6 * (value - time)) if value else None

    found: dict[str, list[Any]] = {"steps": [], "batches": [], "states": []}
    for kind, number, first, second, third, last in rows.tolist():
        times = [since(first), since(second)]
        if kind == Span.STATE:
            found["states"].append([Diary.NAMES[int(number)], *times])
            continue
        name = "steps" if kind == Span.STEP else "batches"
        found[name].append([int(number), *times, since(third), int(last)])
    return found
