"""The lines of a run's log that still hold."""

import json
import math
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

LOG = "run.jsonl"
# What a line of each kind cannot do without.
_NEEDED = {
    "run": ("time", "update"),
    "update": ("update",),
    "window": ("update",),
    "epoch": ("update",),
    "staleness": ("update",),
    "end": ("update",),
}

# What is there, is of this type.
_TYPES: dict[str, dict[str, type]] = {
    "run": {"devices": list, "versions": dict, "asynchronous": dict},
    "staleness": {"staleness": dict},
    "window": {"replicas": list, "bounds": list},
}
_LATEST = 253_402_300_799  # The last second of the year 9999.

Line = Mapping[str, Any]


def number(line: Line, key: str) -> float | None:
    """Returns a line's finite number of that name, or `None`."""
    value = line.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return value if math.isfinite(value) else None
    except OverflowError:
        return None


def fits(folder: str | os.PathLike[str]) -> list[list[Line]]:
    """Returns the lines of each fit of a run, without those that were lost.

    A fit begins with a line of kind "run". What earlier fits wrote about
    updates that it makes anew was lost with a failure, and is left out.

    Args:
        folder: Folder of the log, `run.jsonl`.

    Returns:
        The lines of each fit that left something, first its "run" line.

    Raises:
        ValueError: If there is no such log, if it has no "run" line, or if a
            line is malformed, other than a last one cut in half.
    """
    path = pathlib.Path(folder, LOG)
    found: list[list[Line]] = []
    for line in _lines(path):
        if line["kind"] == "run":
            begun = line["update"]
            found = [
                [of, *(x for x in rest if x["update"] <= begun)]
                for of, *rest in found
                if of["update"] < begun
            ]
            found.append([line])
        elif found:
            found[-1].append(line)
    if not found:
        raise ValueError(
            'The log of a run must have a line of kind "run". Received: none '
            f"in {path}. Give the folder of a run that has begun to train."
        )
    return found


def _lines(path: pathlib.Path) -> Iterator[Line]:
    if not path.is_file():
        what = f"no {LOG} in it" if path.parent.is_dir() else "no such folder"
        raise ValueError(
            f"A run must be a folder with its log, {LOG}. Received: "
            f"{path.parent} ({what}). Give a folder that the log was written "
            "to."
        )
    *lines, last = path.read_bytes().split(b"\n")
    for place, text in enumerate(lines, start=1):
        if text.strip():
            line = _parsed(text, place, path)
            if line["kind"] in _NEEDED:
                yield line
    try:
        line = _parsed(last, len(lines) + 1, path)
    except ValueError:
        return  # Cut in half, or not there: the file ends with a line break.
    if line["kind"] in _NEEDED:
        yield line


def _parsed(text: bytes, place: int, path: pathlib.Path) -> Line:
    try:
        line = _printable(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise _malformed(place, path, f"{error}") from None
    if not isinstance(line, dict):
        raise _malformed(place, path, f"a {type(line).__name__}")
    kind = line.setdefault("kind", "")
    if not isinstance(kind, str):
        raise _malformed(place, path, f'a "kind" that is {kind!r:.50}')
    for key in _NEEDED.get(kind, ()):
        value = number(line, key)
        if value is None or not 0 <= value <= _LATEST:
            problem = f'kind "{kind}" without a number "{key}" in range'
            raise _malformed(place, path, problem)
    for key, expected in _TYPES.get(kind, {}).items():
        value = line.get(key)
        if value is not None and not isinstance(value, expected):
            problem = f'"{key}" is no {expected.__name__}: {value!r:.50}'
            raise _malformed(place, path, problem)
    replicas = line.get("replicas") if kind == "window" else None
    if not all(isinstance(each, dict) for each in replicas or ()):
        raise _malformed(place, path, '"replicas" are no objects')
    return line


def _printable(value: Any) -> Any:
    """Returns a value without characters that a terminal would obey."""
    if isinstance(value, dict):
        return {_printable(k): _printable(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_printable(each) for each in value]
    if isinstance(value, str):
        return "".join(
            c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in value
        )
    return value


def _malformed(place: int, path: pathlib.Path, problem: str) -> ValueError:
    return ValueError(
        "Every line of a log must be a JSON object with the numbers of its "
        f"kind. Received: {path}, line {place}: {problem}. Mend or remove "
        "that line."
    )
