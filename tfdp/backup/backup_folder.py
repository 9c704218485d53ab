"""A folder of backups, of which the newest that is whole is used."""

import contextlib
import dataclasses
import json
import os
import pathlib
import re
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

_ABOUT = "about"
# By the number of updates; all else was put there by somebody.
_NAME = re.compile(r"backup-([0-9]{1,18})\.npz")


@dataclasses.dataclass(frozen=True)
class Backup:
    """What was saved at one update.

    Attributes:
        arrays: Arrays by name.
        about: What else was saved; anything JSON can hold.
    """

    arrays: Mapping[str, np.ndarray]
    about: Mapping[str, Any]

    def as_arrays(self) -> dict[str, np.ndarray]:
        """Returns all of it as arrays, by name."""
        about = json.dumps([self.about, sorted(self.arrays)])
        return {
            _ABOUT: np.frombuffer(about.encode(), np.uint8),
            **self.arrays,
        }

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "Backup":
        """Returns what `as_arrays` was called of.

        Raises:
            ValueError: If some are missing.
            KeyError: If most are.
        """
        rest = dict(arrays)
        about, names = json.loads(rest.pop(_ABOUT).tobytes())
        if names != sorted(rest):
            raise ValueError("arrays are missing")
        return cls(rest, about)


class BackupFolder:
    """Keeps the last backups of a run, each in a file of its own.

    A file is written under another name, and renamed once it is whole; so one
    that carries a backup's name was whole when it was written.

    Args:
        path: The folder; made where it is missing.
        keep: Number of backups to keep; at least 1.
    """

    def __init__(self, path: str | os.PathLike[str], *, keep: int) -> None:
        self.path = pathlib.Path(path)
        self._keep = keep

    def check(self) -> None:
        """Makes the folder, and checks that files can be written there.

        Raises:
            ValueError: If they cannot.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path):
                pass
        except OSError as error:
            raise ValueError(
                "`backup_dir` must be a folder that can be written to. "
                f"Received: {self.path} ({error.strerror}). Give another."
            ) from error

    def save(self, update: int, backup: Backup) -> None:
        """Writes a backup, and removes those that are not kept.

        Where it cannot be written, as on a disk that is full, what was there
        before stays.

        Args:
            update: Number of updates made; the files' order.
            backup: What to write.

        Raises:
            OSError: If it cannot be written.
        """
        path = self.path / f"backup-{update:010d}.npz"
        try:
            self._write(path, backup)
        except OSError:
            with contextlib.suppress(OSError):
                path.with_suffix(".unfinished").unlink(missing_ok=True)
            raise

    def newest_update(self) -> int:
        """Returns the updates of the newest, whole or not; -1 for none."""
        return max(map(_update_of, self._files()), default=-1)

    def _write(self, path: pathlib.Path, backup: Backup) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".unfinished")
        arrays: dict[str, Any] = backup.as_arrays()
        with unfinished.open("wb") as file:
            np.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
        _sync(self.path)
        # A damaged one that comes later must not take a whole one's place.
        files = self._files()
        for old in files[: files.index(path) + 1][: -self._keep]:
            if old.is_file():
                old.unlink()

    def newest(
        self, check: Callable[[Backup], object] = lambda backup: None
    ) -> Backup | None:
        """Reads the newest backup that is whole.

        Args:
            check: Raises a `ValueError`, `KeyError` or `TypeError` for a backup
                that says what cannot be. Defaults to none that does.

        Returns:
            The backup, or `None` where there is none. A warning tells of each
            damaged one that was passed over.
        """
        for path in [*self._others(), *reversed(self._files())]:
            try:
                _update_of(path)
                with path.open("rb") as opened, np.load(opened) as file:
                    arrays = {name: file[name] for name in file.files}
                backup = Backup.of_arrays(arrays)
                check(backup)
            except (
                OSError,
                EOFError,
                ValueError,
                KeyError,
                RuntimeError,
                TypeError,
                AttributeError,
                OverflowError,
                zipfile.BadZipFile,
                zlib.error,
            ) as error:
                warnings.warn(
                    "A backup must be readable. Received: a damaged "
                    f"{path} ({type(error).__name__}: {error}). The one before "
                    "is used instead, if there is one.",
                    stacklevel=2,
                )
            else:
                return backup
        return None

    def delete(self) -> None:
        """Removes all backups, and the folder if nothing else is in it."""
        for path in (*self._files(), *self.path.glob("backup-*.unfinished")):
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.path.rmdir()

    def _files(self) -> list[pathlib.Path]:
        found = set(self.path.glob("backup-*.npz")).difference(self._others())
        return sorted(found, key=_update_of)

    def _others(self) -> list[pathlib.Path]:
        """Files with a backup's name, but for the number: copies, perhaps."""
        found = sorted(self.path.glob("backup-*.npz"))
        return [path for path in found if not _NAME.fullmatch(path.name)]


def _update_of(path: pathlib.Path) -> int:
    match = _NAME.fullmatch(path.name)
    if not match:
        raise ValueError("its name is not backup-NUMBER.npz")
    return int(match[1])


def _sync(folder: pathlib.Path) -> None:
    # The new name must reach the disk too.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
