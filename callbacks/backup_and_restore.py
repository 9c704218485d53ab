"""Backups from which training goes on as if nothing had happened."""

import os
import signal
import time
import warnings
from collections.abc import Callable
from typing import Any, Literal

import keras
import numpy as np
from tfdp.callbacks.data_parallel import DataParallel

from tfdp import _keras, inspection
from tfdp.agreement import broadcast, gather_objects
from tfdp.backup_folder import Backup, BackupFolder
from tfdp.batch import checked_count
from tfdp.data_position import DataPosition, Position, skip
from tfdp.optimizer import DistributedOptimizer
from tfdp.training_state import TrainingState

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class BackupAndRestore(keras.callbacks.Callback):
    """Backs up training, and resumes it at the batch where it was.

    A drop-in for `keras.callbacks.BackupAndRestore`, which restores the epoch.
    Give it to `fit`; when the program is started again, by hand or by
    `tfdp launch --max-restarts`, the same call goes on from the last backup:
    weights, optimizer, loss scale, seeds, metrics, history and the place in
    the data are those of the run that was not interrupted.

    Backups are made between updates. The chief writes them, under another
    name until they are whole, and reads them: no other worker needs to see
    `backup_dir`. SIGTERM to any worker, as schedulers send it, and Ctrl-C make
    a backup at the end of the update under way, the same on all workers;
    after SIGTERM each of them exits with code 143 (128 + SIGTERM).

    What is not restored: the state of other callbacks, such as the patience of
    `EarlyStopping`, and random numbers that Python or NumPy draw.

    Where the number of replicas has changed since the backup, each replica
    gets the mean of the batch statistics, and steps are counted by updates, so
    that the global batch should be the same; masks of dropout differ then.

    It must come after `callbacks.DataParallel()`. Use the same `epochs`, data
    and seeds as in the run that was interrupted.

    Args:
        backup_dir: Folder of this run's backups, on the chief's machine or
            where every machine sees it. Made where it is missing.
        save_freq: `"epoch"`, or an integer: the number of updates between
            backups, besides those between epochs. Defaults to `"epoch"`.
        every_seconds: Seconds between backups, by the chief's clock; `None`
            for no such backups. Defaults to `None`.
        keep: Number of backups to keep. Where the newest is damaged, the one
            before is used, with a warning. Defaults to 2.
        delete_checkpoint: Whether to delete the backups when training has
            reached its end. Defaults to `True`.
        clock: Returns the time in seconds. Defaults to `time.monotonic`.

    Raises:
        TypeError: If `save_freq` or `keep` are not of these types.
        ValueError: If a number is not positive. At the begin of training, if
            the backup is of another model.
        RuntimeError: At the begin of training, if `callbacks.DataParallel`
            does not come before.

    Example:

    >>> callbacks = [
    ...     tfdp.callbacks.DataParallel(),
    ...     tfdp.callbacks.BackupAndRestore("backups", save_freq=500),
    ... ]
    """

    def __init__(
        self,
        backup_dir: str | os.PathLike[str],
        save_freq: Literal["epoch"] | int = "epoch",
        *,
        every_seconds: float | None = None,
        keep: int = 2,
        delete_checkpoint: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self.save_freq = (
            save_freq
            if save_freq == "epoch"
            else checked_count("save_freq", save_freq)
        )
        if every_seconds is not None and not every_seconds > 0:
            raise ValueError(
                "`every_seconds` must be positive. Received: "
                f"every_seconds={every_seconds}. Leave it out for backups by "
                "updates or epochs alone."
            )
        self.every_seconds = every_seconds
        self.delete_checkpoint = delete_checkpoint
        self._folder = BackupFolder(
            backup_dir, keep=checked_count("keep", keep)
        )
        self._clock = clock

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Goes to where the last backup was made, if there is one."""
        self._edges = _edges()
        self._strategy = self.model.distribute_strategy
        self._state = TrainingState(self.model, self._strategy)
        self._position = DataPosition()
        self._epoch = self._batch = 0
        self._restored: Backup | None = None
        self._skipping = False
        backup = self._read()
        if backup is not None:
            self._restore(backup)
        elif not self._position.is_repeatable(self._strategy.drawn_seed):
            self._say(
                "Data must be shuffled by a seed, or an epoch cannot be "
                "resumed. Received: a shuffling without one. After a restart "
                "some samples of the epoch would be seen twice, and others "
                "not. Call `keras.utils.set_random_seed` at the start of the "
                "program, or give `shuffle` a seed."
            )
        self._saved_at = self._updates()
        self._saved_when = self._clock()
        self._edges.at_updates(self._at_update, signals=_SIGNALS)

    def on_epoch_begin(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Backs up what the last epoch has left."""
        if self._restored is not None:
            about = self._restored.about
            self.model.history.history.update(about["history"])
            self.model.history.epoch[:] = about["epochs"]
            self._restored = None
        elif epoch != self._epoch or self._batch:
            self._epoch, self._batch = epoch, 0
            self._save(self._position.of_next_epoch)
        self._epoch = epoch

    def on_train_batch_begin(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Notes which batches are taken."""
        self._first = batch
        self._position.begin_step()

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Notes which batches were taken, and asks for a backup in time."""
        self._position.end_step(batch - self._first + 1)
        self._batch = batch + 1
        if (
            self.every_seconds
            and self._strategy.is_chief
            and self._clock() - self._saved_when >= self.every_seconds
        ):
            self._edges.ballot.ask("backup")

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Deletes the backups, or marks that training has reached its end."""
        if not self.delete_checkpoint:
            self._epoch, self._batch = self._epoch + 1, 0
            self._save(self._position.of_next_epoch)
        elif self._strategy.is_chief:
            self._folder.delete()

    def _at_update(self, decided: frozenset[str]) -> None:
        if self._skipping:
            return
        is_due = (
            self.save_freq != "epoch"
            and self._updates() - self._saved_at >= self.save_freq
        )
        if is_due or decided & {"backup", "interrupt", "terminate"}:
            self._save(self._position.in_epoch)

    def _updates(self) -> int:
        return max(
            (
                int(optimizer.iterations.numpy()) + _skipped(optimizer)
                for optimizer in inspection.optimizers(self.model)
                if optimizer.built
            ),
            default=0,
        )

    def _accumulation_steps(self) -> int:
        return getattr(self.model.optimizer, "accumulation_steps", 1)

    def _save(self, position: Position) -> None:
        arrays = self._state.captured()
        self._saved_at = self._updates()
        self._saved_when = self._clock()
        if not self._strategy.is_chief:
            return
        history = self.model.history
        about = {
            "epoch": self._epoch,
            "batch": self._batch,
            "position": list(position),
            "order": self._position.order,
            "replicas": self._strategy.num_replicas_in_sync,
            "accumulation_steps": self._accumulation_steps(),
            "history": {
                key: [float(value) for value in values]
                for key, values in history.history.items()
            },
            "epochs": list(history.epoch),
        }
        self._folder.save(self._saved_at, Backup(arrays, about))

    def _read(self) -> Backup | None:
        """Gives every worker the chief's newest backup; a collective."""
        own = self._folder.newest() if self._strategy.is_chief else None
        if self._strategy.num_workers == 1:
            return own
        shapes = own and {
            name: (array.shape, array.dtype.str)
            for name, array in own.arrays.items()
        }
        described = gather_objects(self._strategy, own and [own.about, shapes])[
            0
        ]
        if described is None:
            return None
        about, shapes = described
        return Backup(
            {
                name: broadcast(
                    self._strategy,
                    own.arrays[name] if own else np.zeros(shape, dtype),
                )
                for name, (shape, dtype) in shapes.items()
            },
            about,
        )

    def _restore(self, backup: Backup) -> None:
        self._state.check(backup.arrays)
        self._state.restore(backup.arrays)
        about = backup.about
        steps = self._accumulation_steps()

        def in_steps_of_now(batches: int) -> int:
            return batches * steps // about["accumulation_steps"]

        batch = in_steps_of_now(about["batch"])
        begun, taken = about["position"]
        position = Position(begun, in_steps_of_now(taken))
        is_there = self._position.go_to(position)
        if not is_there or about["order"] != self._position.order:
            self._say(
                "The data must be in the order in which they were when the "
                "backup was made. Received: a dataset shuffled by another "
                "seed. Some samples of this epoch are seen twice now, and "
                "others not. Call `keras.utils.set_random_seed` at the start "
                "of the program, with the same number each time."
            )
        replicas = self._strategy.num_replicas_in_sync
        if replicas != about["replicas"]:
            self._say(
                f"Resuming on {replicas} replicas a backup made on "
                f"{about['replicas']}: the updates stay those of the same "
                "global batch, if `BatchPlan` is given the same; batch "
                "statistics are their mean, and dropout draws other masks."
            )
        if self._strategy.is_chief:
            print(
                f"Resuming at epoch {about['epoch'] + 1}, batch {batch}, from "
                f"{self._folder.path}.",
                flush=True,
            )
        self._restored = backup
        self._epoch, self._batch = about["epoch"], batch
        _keras.begin_at_epoch(self.model, about["epoch"])
        self._skip(backup, batch, ahead=position.batches - batch)

    def _skip(self, backup: Backup, batches: int, *, ahead: int) -> None:
        """Takes batches without training on them, in the steps to come."""
        train = self.model.train_function
        this_fit = _keras.fit_under_way()
        per_step = self.model.steps_per_execution
        left = batches
        self._skipping = True

        def replay(iterator: Any) -> Any:
            nonlocal ahead, left
            if _keras.fit_under_way() is not this_fit:
                # That one was aborted before it got here.
                self.model.train_function = train
                return train(iterator)
            skip(iterator, ahead)
            self._position.end_step(ahead)
            ahead = 0
            if left > 0:
                skip(iterator, min(per_step, left))
                left -= per_step
                self._state.restore_metrics(backup.arrays)
                return self.model.get_metrics_result()
            self._skipping = False
            self._state.restore_metrics(backup.arrays)
            self.model.train_function = train
            return train(iterator)

        self.model.train_function = replay

    def _say(self, message: str) -> None:
        if self._strategy.is_chief:
            warnings.warn(message, stacklevel=3)


def _skipped(optimizer: keras.optimizers.Optimizer) -> int:
    is_ours = isinstance(optimizer, DistributedOptimizer)
    return int(optimizer.skipped_updates.numpy()) if is_ours else 0


def _edges() -> DataParallel:
    callbacks = _keras.callbacks_in_use(depth=2) or []
    for callback in callbacks:
        if isinstance(callback, DataParallel):
            return callback
    raise RuntimeError(
        "`callbacks.BackupAndRestore` needs `callbacks.DataParallel`, by "
        "which workers agree when to back up. Received: "
        f"{', '.join(type(c).__name__ for c in callbacks)}. Put "
        "`tfdp.callbacks.DataParallel()` at the head of the list given to "
        "`fit`."
    )
