"""A run, written down line by line; no TensorFlow, no clock."""

import json
import math
import numbers
import os
import pathlib
import tempfile
import warnings
from collections.abc import Mapping
from typing import Any


class RunLog:
    """Appends rows to `run.jsonl` in a folder: one JSON object per line.

    `callbacks.RunLogger` writes it, `tfdp report` reads it. Every row has a
    `kind` and a `time`, in seconds since 1970:

    | Kind        | When                  | Also has                          |
    | ----------- | --------------------- | --------------------------------- |
    | `run`       | a fit begins          | what trains, on what              |
    | `update`    | every so many updates | logs of the step, figures         |
    | `window`    | a throughput is known | one row of it for each worker     |
    | `epoch`     | an epoch ends         | `seconds`, logs of the epoch      |
    | `staleness` | then, if asynchronous | one row of it for each worker     |
    | `backups`   | then, if there are    | how many, and seconds of waiting  |
    | `end`       | the fit ends          | `limit`, `words`: what limited it |
    | `start`     | workers start         | `attempt`, the name of the start  |
    | `spent`     | with updates, epochs  | seconds in each state since then  |
    |             | and ends              |                                   |
    | `loss`      | a worker is lost      | which one, and its exit code      |
    | `exit`      | all workers end       | as `spent`                        |

    All but the last four have `update`, the updates made so far, skipped ones
    included, and all of these but ends `epoch`, counted from 0. The last four
    are of a start of the workers instead, by its `attempt`, and losses and
    exits are written by their launcher. What is no finite number is `null`.
    `docs/reference/run_log.md` lists the keys.

    A row is in the file once `append` returns. A program that is killed while
    it writes leaves a half line, which the next to open the file removes; one
    that resumes from a backup repeats the updates since, and appends.

    Args:
        log_dir: The folder; made where it is missing.
        name: The file in it. Defaults to `"run.jsonl"`.

    Attributes:
        path: The file.

    Raises:
        ValueError: If `log_dir` is not a folder that can be written to.

    Example:

    >>> import tempfile
    >>> log = RunLog(tempfile.mkdtemp())
    >>> log.append({"kind": "end", "time": 2.5, "update": 8, "limit": None})
    >>> log.path.read_text()
    '{"kind": "end", "time": 2.5, "update": 8, "limit": null}\\n'
    """

    def __init__(
        self, log_dir: str | os.PathLike[str], name: str = "run.jsonl"
    ) -> None:
        folder = pathlib.Path(log_dir)
        self.path = folder / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
            with self.path.open("a+b") as file:
                _cut_half_line(file)
        except OSError as error:
            raise ValueError(
                "`log_dir` must be a folder that can be written to. "
                f"Received: {folder} ({error.strerror}). Give another."
            ) from error
        self._has_failed = False

    def append(self, row: Mapping[str, Any]) -> None:
        """Writes a row.

        One that cannot be written, as on a disk that is full, is left out; a
        warning tells of the first.

        Args:
            row: Anything JSON can hold, and numbers of NumPy.
        """
        line = json.dumps(_storable(row), allow_nan=False)
        try:
            with self.path.open("a+b") as file:
                if self._has_failed:
                    _cut_half_line(file)
                file.write(line.encode() + b"\n")
        except OSError as error:
            if not self._has_failed:
                warnings.warn(
                    "A run is logged to a file that can be written to. "
                    f"Received: {self.path} ({error.strerror}). Training goes "
                    "on, and rows are left out until there is room.",
                    stacklevel=2,
                )
            self._has_failed = True
        else:
            self._has_failed = False


def numbers_in(logs: Mapping[str, Any] | None) -> dict[str, float]:
    """Returns what is a number among the logs of Keras.

    Args:
        logs: Logs as a callback is given them.

    Returns:
        The numbers by name, of Python's types; arrays and strings left out.

    Example:

    >>> numbers_in({"loss": 0.5, "confusion": [[1, 2], [3, 4]], "note": "a"})
    {'loss': 0.5}
    """
    found = {name: _number(value) for name, value in (logs or {}).items()}
    return {name: x for name, x in found.items() if x is not None}


def _number(value: Any) -> float | None:
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, str) or getattr(value, "ndim", 0) > 0:
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _storable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _storable(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_storable(each) for each in value]
    if value is None or isinstance(value, (str, bool)):
        return value
    number = _number(value)
    try:
        return number if number is not None and math.isfinite(number) else None
    except OverflowError:
        return None


def _cut_half_line(file: Any) -> None:
    file.seek(0)
    file.truncate(file.read().rfind(b"\n") + 1)
