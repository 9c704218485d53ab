"""The backups of a run, on disk and in memory: the chief's, for all workers."""

import contextlib
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from tfdp.agreement import all_gather
from tfdp.backup.backup_folder import Backup, BackupFolder
from tfdp.backup.backup_writer import BackupWriter
from tfdp.backup.contents import check_contents
from tfdp.backup.memory import MemoryCopy, Pauses
from tfdp.backup.sharing import shared
from tfdp.strategy import AsynchronousStrategy, DataParallelStrategy

# Folders of fits that have ended in this process: another one with the same
# folder does not go on from there.
_ended_here: set[str] = set()


class Backups:
    """Saves backups where they are asked for, and finds the newest one.

    The chief alone has any, and all others are given what it finds. One that
    goes to the disk is in memory first, where there is a folder for that.

    Args:
        path: The folder on disk.
        keep: Number of backups to keep there.
        most_pause: Share of the time that backups in memory may take.
        clock: Returns the time in seconds.

    Raises:
        ValueError: If the folder has no name.

    Attributes:
        path: As given.
        pauses: What training has waited for.
        outlive_a_fit: Whether the end of a `fit` is kept in memory, for a
            program that falls later; the same on all workers.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        keep: int,
        most_pause: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not os.fspath(path):
            raise ValueError(
                "`backup_dir` must name a folder. Received: an empty name. "
                "Give each run a folder of its own."
            )
        self._folder = BackupFolder(path, keep=keep)
        self.path = self._folder.path
        self._writer = BackupWriter(self._folder)
        self._most_pause = most_pause
        self._clock = clock
        self._memory: MemoryCopy | None = None
        self._reason = ""
        self.pauses = Pauses(0.0, clock)
        self.outlive_a_fit = False

    def open(self, strategy: DataParallelStrategy, memory_folder: str) -> None:
        """Begins a `fit`.

        Args:
            strategy: The strategy of the workers.
            memory_folder: Folder in memory; empty for none.

        Raises:
            ValueError: If the folder on disk cannot be written to.
        """
        self._strategy = strategy
        self._memory = None
        if strategy.is_chief:
            self._writer.wait()
            self._folder.check()
            # Where nobody waits for others, all would for the server's state.
            is_apart = isinstance(strategy, AsynchronousStrategy)
            if self._most_pause and not is_apart:
                self._memory = MemoryCopy.opened(memory_folder, self.path)
            if self._memory and self._name in _ended_here:
                self._memory.delete()
            _ended_here.discard(self._name)
        self._told_at = 0
        most = self._most_pause if self._memory else 0.0
        self.pauses = Pauses(most, self._clock)

    def newest(self) -> tuple[Backup | None, str]:
        """Reads the newest backup that is whole; a collective.

        Returns:
            The backup, or `None` where there is none; and where it was, on the
            chief.
        """
        own, where = None, ""
        self.outlive_a_fit = self._memory is not None
        if self._strategy.num_workers > 1:
            told = all_gather(self._strategy, [int(self.outlive_a_fit)])
            self.outlive_a_fit = bool(told[0, 0])
        if self._strategy.is_chief:
            own, where = self._newest()
        return shared(self._strategy, own), where

    def wait(self, *, is_last: bool = False) -> None:
        """Waits until nothing is being written; as the writer does.

        Args:
            is_last: Whether no other backup follows.
        """
        self._writer.wait(is_last=is_last)

    def look(self) -> None:
        """Tells of a backup that has failed by now, without waiting."""
        self._writer.look()

    @contextlib.contextmanager
    def pause(self, *, on_disk: bool) -> Iterator[None]:
        """Measures how long training waits for a backup.

        Args:
            on_disk: Whether it goes to the disk.
        """
        with self.pauses.of("disk" if on_disk else "memory"):
            if on_disk and self._strategy.is_chief:
                # Before there is another copy.
                self._writer.wait()
            yield

    def tell(self, update: int) -> None:
        """Prints how often there was a backup in memory since the last time.

        Args:
            update: Number of updates made.
        """
        words = self.pauses.words(update - self._told_at)
        if words:
            print(words, flush=True)
        self._told_at = update

    def save(self, update: int, backup: Backup, *, on_disk: bool) -> None:
        """Saves a backup in memory, and begins to write it to the disk.

        Args:
            update: Number of updates made.
            backup: What to save.
            on_disk: Whether it goes to the disk too: then nobody may change
                its arrays.
        """
        if self._memory is not None:
            self._save_in_memory(self._memory, backup)
        if on_disk:
            self._writer.save(update, backup)

    def close(self) -> None:
        """Ends a `fit`: what is on disk now needs no memory."""
        self._writer.wait(is_last=True)
        if self._memory is not None and not self._writer.has_failed:
            self._memory.delete()

    def end(self) -> None:
        """Takes note that a `fit` has ended, here or before."""
        _ended_here.add(self._name)

    def leave_no_empty_folder(self) -> None:
        """Removes the folder if nothing is in it."""
        if self._strategy.is_chief:
            with contextlib.suppress(OSError):
                os.rmdir(self.path)

    def delete(self) -> None:
        """Removes all backups, and the folder if nothing else is in it.

        The newest one in memory stays: whoever starts this program again does
        not train again.
        """
        if not self._strategy.is_chief:
            return
        self._writer.wait()
        try:
            self._folder.delete()
        except OSError as error:
            warnings.warn(
                "Backups are removed when a training has reached its end. "
                f"Received: {self.path} ({error.strerror}), which stays. "
                "Remove it, or the same `fit` goes on from there.",
                stacklevel=3,
            )
        if self._memory is not None:
            self._memory.keep_newest()

    @property
    def _name(self) -> str:
        return os.path.realpath(self.path)

    def _newest(self) -> tuple[Backup | None, str]:
        in_memory = self._memory and self._memory.newest(_checked)
        if in_memory and (
            in_memory.about["updates"] > self._folder.newest_update()
        ):
            return in_memory, "memory"
        on_disk = self._folder.newest(check_contents)
        if in_memory and (on_disk is None or _age(in_memory) >= _age(on_disk)):
            return in_memory, "memory"
        return on_disk, str(self.path)

    def _save_in_memory(self, memory: MemoryCopy, backup: Backup) -> None:
        try:
            memory.save(backup.as_arrays())
        except OSError as error:
            reason = error.strerror or str(error)
            if reason != self._reason:
                warnings.warn(
                    "A backup in memory must have room there. Received: "
                    f"{reason}. Training goes on with backups on disk, as "
                    "often as `save_freq` and `every_seconds` say, and tries "
                    "again; make room, as by a larger /dev/shm.",
                    stacklevel=3,
                )
            self._reason = reason
        else:
            self._reason = ""


def _checked(arrays: Mapping[str, np.ndarray]) -> Backup:
    backup = Backup.of_arrays(arrays)
    check_contents(backup)
    return backup


def _age(backup: Backup) -> tuple[int, int, int]:
    about = backup.about
    return about["updates"], about["epoch"], about["batch"]
