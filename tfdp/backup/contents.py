"""What a backup says of itself, and whether that can be."""

from collections.abc import Mapping, Sequence
from typing import Any

from tfdp.backup.backup_folder import Backup

_AT_LEAST = {
    "epoch": 0,
    "batch": 0,
    "replicas": 1,
    "accumulation_steps": 1,
    "updates": 0,
}


def check_contents(backup: Backup) -> None:
    """Checks that a backup is one that a training can have written.

    Args:
        backup: A backup that could be read.

    Raises:
        ValueError: If it lacks something, or says what cannot be.

    Example:

    >>> check_contents(Backup({}, {"epoch": -1}))
    Traceback (most recent call last):
    ValueError: `epoch` is -1
    """
    about = backup.about
    if not isinstance(about, Mapping):
        raise ValueError("what it says of itself is no mapping")
    for name, least in _AT_LEAST.items():
        _check_count(name, about.get(name), least)
    # Of which backups of before say nothing.
    if about.get("global_batch") is not None:
        _check_count("global_batch", about["global_batch"], 1)
    position = about.get("position")
    if not isinstance(position, Sequence) or len(position) != 2:
        raise ValueError(f"`position` is {position!r}")
    for count in position:
        _check_count("position", count, 0)
    history = about.get("history")
    if not isinstance(history, Mapping) or not all(
        isinstance(values, list) for values in history.values()
    ):
        raise ValueError("`history` is no mapping of lists")
    epochs = about.get("epochs")
    if not isinstance(epochs, list):
        raise ValueError(f"`epochs` is {epochs!r}")
    for epoch in epochs:
        _check_count("epochs", epoch, 0)


def _check_count(name: str, value: Any, least: int) -> None:
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    if not is_whole or value < least:
        raise ValueError(f"`{name}` is {value!r}")
