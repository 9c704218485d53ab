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
    "end": ("update",),
}

Line = Mapping[str, Any]


def number(line: Line, key: str) -> float | None:
    """Returns a line's finite number of that name, or `None`."""
    value = line.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if math.isfinite(value) else None


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
            if line.get("kind") in _NEEDED:
                yield line
    try:
        line = _parsed(last, len(lines) + 1, path)
    except ValueError:
        return  # Cut in half, or not there: the file ends with a line break.
    if line.get("kind") in _NEEDED:
        yield line


def _parsed(text: bytes, place: int, path: pathlib.Path) -> Line:
    try:
        line = json.loads(text)
    except ValueError as error:
        raise _malformed(place, path, f"{error}") from None
    if not isinstance(line, dict):
        raise _malformed(place, path, f"a {type(line).__name__}")
    for key in _NEEDED.get(str(line.get("kind")), ()):
        if number(line, key) is None:
            problem = f'kind "{line["kind"]}" without a number "{key}"'
            raise _malformed(place, path, problem)
    return line


def _malformed(place: int, path: pathlib.Path, problem: str) -> ValueError:
    return ValueError(
        "Every line of a log must be a JSON object with the numbers of its "
        f"kind. Received: {path}, line {place}: {problem}. Mend or remove "
        "that line."
    )
