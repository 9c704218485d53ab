"""What launchers of one job must all have started."""

import hashlib
import json
import pathlib
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

_NONE = "none"
# By another name where it is built for the CPU alone, or of last night.
_PACKAGES = {
    "tfdp": ("tfdp",),
    "TensorFlow": ("tensorflow", "tensorflow-cpu", "tf-nightly-cpu"),
    "Keras": ("keras", "keras-nightly"),
}


def program_of(
    script: str, args: Sequence[str], workers: str = ""
) -> dict[str, str]:
    """Describes what a launcher starts, and with what.

    What the script imports from beside it is not looked into.

    Args:
        script: Path of a Python file.
        args: Its arguments.
        workers: How many workers there may be, as it was said.

    Returns:
        Versions, and codes that differ where the file or the arguments do, by
        names for messages.

    Raises:
        OSError: If the file cannot be read.

    Example:

    >>> list(program_of(__file__, [], "1:4"))[:3]
    ['--workers', 'script', 'arguments']
    """
    return {
        "--workers": workers,
        "script": _code(pathlib.Path(script).read_bytes()),
        "arguments": _code(json.dumps(list(args)).encode()),
        "Python": platform.python_version(),
        **{name: _version(packages) for name, packages in _PACKAGES.items()},
    }


def difference(here: Mapping[str, str], there: Mapping[str, Any]) -> str:
    """Says in what two programs differ.

    Args:
        here: One.
        there: The other, which may be anything.

    Returns:
        Such as `"Keras 3.11.0 here, 3.12.0 there"`; empty where they are the
        same.

    Example:

    >>> difference({"Keras": "3.1", "script": "4"}, {"Keras": "3.1"})
    "script '4' here, none there"
    """
    told = [
        f"{name} {_shown(here.get(name))} here, {_shown(there.get(name))} there"
        for name in sorted({*here, *map(str, there)})
        if here.get(name) != there.get(name)
    ]
    return "; ".join(told)


def _code(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]


def _version(packages: Sequence[str]) -> str:
    for package in packages:
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return _NONE


def _shown(value: Any) -> str:
    return _NONE if value is None else repr(value)[:60]
