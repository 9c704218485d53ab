"""Setuptools, whose editable install also works from the folder above.

A clone lies in a folder named `tfdp`, which holds another of that name. To a
program in the folder above, Python's own search shows the outer one first, as
an empty namespace, and does not ask setuptools' finder any more. So an editable
install gets a finder that is asked before: for `tfdp` alone, and only where
nothing but a namespace would be found.
"""

import base64
import hashlib
import os
import pathlib
import zipfile
from typing import Any

from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403

_MODULE = "__editable___tfdp_above"
_FINDER = '''"""Finds tfdp where a folder of that name hides it."""

import os
import sys
from importlib.machinery import PathFinder
from importlib.util import spec_from_file_location

INIT = {init!r}


class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name != "tfdp" or not os.path.exists(INIT):
            return None
        found = PathFinder.find_spec(name)
        if found is None or found.origin is not None:
            return None
        return spec_from_file_location(name, INIT)


def install():
    if Finder not in sys.meta_path:
        places = [*sys.meta_path, PathFinder]
        sys.meta_path.insert(places.index(PathFinder), Finder)
'''


def build_editable(
    wheel_directory: str,
    config_settings: dict[str, Any] | None = None,
    metadata_directory: str | None = None,
) -> str:
    """Builds the wheel of an editable install, as PEP 660 has it."""
    name = build_meta.build_editable(
        wheel_directory, config_settings, metadata_directory
    )
    add_finder(pathlib.Path(wheel_directory, name), pathlib.Path.cwd())
    return name


def add_finder(wheel: pathlib.Path, checkout: pathlib.Path) -> None:
    """Puts the finder of a checkout into a wheel, and into its record."""
    init = os.fspath(checkout / "tfdp" / "__init__.py")
    added = {
        f"{_MODULE}.py": _FINDER.format(init=init),
        f"{_MODULE}.pth": f"import {_MODULE}; {_MODULE}.install()\n",
    }
    with zipfile.ZipFile(wheel) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    (record,) = [name for name in files if name.endswith(".dist-info/RECORD")]
    for name, text in added.items():
        files[name] = text.encode()
        digest = hashlib.sha256(files[name]).digest()
        code = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        line = f"{name},sha256={code},{len(files[name])}\n"
        files[record] = files[record].rstrip(b"\n") + b"\n" + line.encode()
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
