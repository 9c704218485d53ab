"""Backups on their way to the disk, while training goes on."""

import threading
import time
import warnings

from tfdp.backup.backup_folder import Backup, BackupFolder

_LONG_SECONDS = 5.0
_ON = (
    "Training goes on with the backups before, and tries again when the next "
    "is due"
)
_LAST = "The run would be resumed from the one before, if there is one"


class BackupWriter:
    """Writes backups to a folder by a thread, one at a time.

    Who saves while another is being written waits for that: each backup that
    was asked for is written, and no more than one is held in memory. One that
    cannot be written is told of, and the next is tried again.

    The thread ends by itself, and Python does not end before it.

    Args:
        folder: Where to write.
    """

    def __init__(self, folder: BackupFolder) -> None:
        self._folder = folder
        self._write: _Write | None = None
        self._reason = ""
        self._waited = 0.0

    def save(self, update: int, backup: Backup) -> None:
        """Begins to write a backup, once the one before is written.

        Args:
            update: Number of updates made; the files' order.
            backup: What to write: nobody must change its arrays.

        Raises:
            Exception: What the one before has failed with, if it is no matter
                of files.
        """
        self.wait()
        self._write = _Write(self._folder, update, backup)
        self._write.start()

    @property
    def has_failed(self) -> bool:
        """Whether the last backup could not be written, as far as is told."""
        return bool(self._reason)

    def look(self) -> None:
        """Tells of a backup that has failed by now, without waiting.

        Raises:
            Exception: As `save` does.
        """
        if self._write is not None and not self._write.is_alive():
            self.wait()

    def wait(self, *, is_last: bool = False) -> None:
        """Waits until nothing is being written.

        Args:
            is_last: Whether no other follows, so that a failure is told even
                where the one before was the same.

        Raises:
            Exception: As `save` does.
        """
        begun = time.monotonic()
        for thread in threading.enumerate():
            # Of a `fit` before this one too, which may have been aborted.
            if isinstance(thread, _Write) and thread.path == self._folder.path:
                thread.join()
        waited = self._waited
        self._waited += time.monotonic() - begun
        if waited <= _LONG_SECONDS < self._waited:
            print(
                f"Training has waited {self._waited:.0f} s for backups to be "
                f"written to {self._folder.path}: it takes longer than from "
                "one to the next. Save less often, or to a faster disk.",
                flush=True,
            )
        write, self._write = self._write, None
        before = self._reason
        if write is not None:
            self._reason = _reason(write.error)
        if self._reason and (is_last or self._reason != before):
            fate = _LAST if is_last else _ON
            warnings.warn(
                "A backup must be written to be resumed from. Received: "
                f"{self._folder.path} ({self._reason}). {fate}; make room, or "
                "give another `backup_dir`.",
                stacklevel=3,
            )


class _Write(threading.Thread):
    """Writes one backup, and keeps what that has failed with."""

    def __init__(
        self, folder: BackupFolder, update: int, backup: Backup
    ) -> None:
        # No daemon: what is half written when a program ends is ended.
        super().__init__(name="tfdp backup", daemon=False)
        self._folder, self._update, self._backup = folder, update, backup
        self.path = folder.path
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self._folder.save(self._update, self._backup)
        except BaseException as error:
            self.error = error


def _reason(error: BaseException | None) -> str:
    """What is told of an error: nothing of none; others are raised."""
    if error is None:
        return ""
    if isinstance(error, OSError):
        return error.strerror or str(error) or type(error).__name__
    raise error
