"""Backups from which training goes on as if nothing had happened."""

import functools
import os
import signal
import time
import warnings
from collections.abc import Callable
from typing import Any, Literal

import keras

from tfdp.backup import (
    Backup,
    Backups,
    CallbackStates,
    RandomNumbers,
    Replay,
    TrainingState,
    UpdateSize,
    arrays_of_model,
    check_built,
    course_of,
    differences,
    fill_history,
    history_of,
)
from tfdp.board import State, own_board
from tfdp.callbacks.data_parallel import edges_of
from tfdp.checks import checked_count, checked_number
from tfdp.optimizer import UpdateCount
from tfdp.settings import memory_folder
from tfdp.upstream.keras import inspection, keras_fit


class BackupAndRestore(keras.callbacks.Callback):
    """Backs up training, and resumes it at the batch where it was.

    A drop-in for `keras.callbacks.BackupAndRestore`, which restores the epoch.
    Give it to `fit`; when the program is started again, by hand or by
    `tfdp launch --max-restarts`, the same call goes on from the last backup:
    weights, optimizer, loss scale, seeds, metrics, history and the place in
    the data are those of the run that was not interrupted.

    Backups are made between updates. The chief copies all to memory, from which
    a thread writes it, under another name until it is whole, and reads it: no
    other worker needs to see `backup_dir`. Training waits for the copy, and
    where a backup is due before the last one is written. One that cannot be
    written is told of, and training goes on. SIGTERM to any worker, as
    schedulers send it, and Ctrl-C make a backup at the end of the update under
    way, the same on all workers; after SIGTERM each of them exits with code 143
    (128 + SIGTERM).

    Under `tfdp launch --max-restarts` there is a copy in memory too, which a
    worker's death leaves there: of every update, where that takes no more than
    `most_pause` of the time, else of every few. A restart resumes from the
    newest of both. There the end of a `fit` is kept, as long as the launcher
    runs: a program that falls later does not train again.

    With it comes back what Keras's callbacks remember, such as patience and
    best weights, and the global random numbers of Python, NumPy and
    `keras.random`. `CSVLogger` keeps the rows of before, one for each epoch,
    and `TensorBoard` writes of no batch again. Callbacks are known
    again by class and place in the list; all workers get what the chief's
    remember. One of your own is asked where it has `get_state()`, which
    returns numbers, strings, arrays, and lists, tuples or dicts of them, and
    `set_state(state)`, called as training begins and again at the batch. Of
    others, and of a `LambdaCallback` whose functions have changed what they
    close over, a warning tells by name. Random generators that a program holds
    itself are not restored.

    Where the number of replicas has changed since the backup, each replica
    gets the mean of the batch statistics, and steps are counted by updates, so
    that the global batch must be the same (see `BatchPlan`); masks of dropout
    differ then. Another one is refused, where the data tell it.

    In an `AsynchronousStrategy` the chief alone backs up, without stopping the
    others: what the server has, of one version, with the batches that are done,
    and what it has itself. `save_freq` counts the updates of all workers. When
    the job is started again, what was done is not done again; metrics and batch
    statistics of an epoch that is resumed in the middle are of what the chief
    had seen, and of what all see from there on. SIGTERM to another worker ends
    that one, and no more.

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
        most_pause: Share of the time that copies in memory may take: 0
            for none, 1 for each update. Defaults to 0.05.
        delete_checkpoint: Whether to delete the backups on disk when training
            has reached its end. Defaults to `True`.
        clock: Returns the time in seconds. Defaults to `time.monotonic`.

    Attributes:
        backups: The backups; `backups.pauses` is what they have taken.

    Raises:
        TypeError: If an argument is not of these types. At the
            begin of training, if a `get_state` returns something else.
        ValueError: If a number is not positive and finite, or `backup_dir`
            empty. At the begin of training, if `backup_dir` cannot be written
            to, or the backup is of another model or global batch.
        RuntimeError: At the begin of training, if `callbacks.DataParallel`
            does not come before, or an optimizer is not built yet.

    Example:

    >>> callbacks = [
    ...     tfdp.callbacks.DataParallel(),
    ...     tfdp.callbacks.BackupAndRestore("backups", save_freq=500),
    ... ]
    """

    is_collective = True
    # Where workers do not meet, it is the chief's alone.
    works_apart = is_of_chief_apart = True

    def __init__(
        self,
        backup_dir: str | os.PathLike[str],
        save_freq: Literal["epoch"] | int = "epoch",
        *,
        every_seconds: float | None = None,
        keep: int = 2,
        most_pause: float = 0.05,
        delete_checkpoint: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self.save_freq = (
            save_freq
            if save_freq == "epoch"
            else checked_count("save_freq", save_freq)
        )
        if every_seconds is not None:
            every_seconds = checked_number("every_seconds", every_seconds)
        self.every_seconds = every_seconds
        self.delete_checkpoint = delete_checkpoint
        self.backups = Backups(
            backup_dir,
            keep=checked_count("keep", keep),
            most_pause=checked_number(
                "most_pause", most_pause, zero_allowed=True, maximum=1
            ),
            clock=clock,
        )
        self._clock = clock

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Goes to where the last backup was made, if there is one."""
        # Where it is the chief's alone, `ChiefOnly` is between.
        callbacks = (
            keras_fit.callbacks_in_use()
            or keras_fit.callbacks_in_use(depth=2)
            or []
        )
        self._edges = edges_of(callbacks)
        self._states = CallbackStates(callbacks)
        check_built(inspection.optimizers(self.model))
        self._strategy = self.model.distribute_strategy
        self._updates = UpdateCount(self.model)
        self._randoms = RandomNumbers(self._strategy)
        self._course = course_of(self.model)
        self._size = UpdateSize(self.model, self._course, self.params)
        self._epoch = self._batch = 0
        self._has_ended = False
        self._restored: Backup | None = None
        self._replay: Replay | None = None
        self._to_come: Backup | None = None
        self.backups.open(self._strategy, memory_folder())
        backup, self._found_in = self.backups.newest()
        if backup is not None:
            self._restore(backup)
        if complaint := self._course.complaint():
            self._say(complaint)
        self._saved_at = self._updates.now()
        self._saved_when = self._clock()
        self.backups.tell(self._saved_at)
        self._edges.hear(
            at_begin=self._begin_training,
            at_epoch=self._begin_epoch,
            at_update=self._end_update,
            signals=(signal.SIGTERM, signal.SIGINT),
        )

    def on_epoch_begin(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Ends what a resumed epoch has left."""
        keras_fit.begin_at_epoch(self.model, None)
        if self._restored is not None:
            fill_history(self.model, self._restored.about)
            self._restored = None
        elif self._replay is not None:
            self._replay.stop()
            self._replay = None

    def on_train_batch_begin(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Notes which batches are taken."""
        self._first = batch
        self._course.begin_step()

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Notes which batches were taken, and asks for a backup in time."""
        self._course.end_step(batch - self._first + 1)
        self._batch = batch + 1
        self.backups.look()
        if (
            self.every_seconds
            and self._strategy.is_chief
            and self._clock() - self._saved_when >= self.every_seconds
        ):
            self._edges.ballot.ask("backup")
        if self.backups.pauses.is_due():
            self._edges.ballot.ask("memory")

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Says how often it has saved in memory, where lines are shown."""
        if self.params.get("verbose") == 2:
            self.backups.tell(self._updates.now())

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Deletes the backups, or marks that training has reached its end."""
        keras_fit.begin_at_epoch(self.model, None)
        if self._replay is not None and self._replay.is_on:
            self._replay.stop()
        self.backups.end()
        self._epoch, self._batch = self._epoch + 1, 0
        if self._restored is not None:
            # Of a run that had reached its end already.
            fill_history(self.model, self._restored.about)
            self.backups.leave_no_empty_folder()
        elif not self.delete_checkpoint:
            self._save()
            self.backups.close()
        else:
            if self.backups.outlive_a_fit:
                self._has_ended = True
                self._save(on_disk=False)
            self.backups.delete()

    def _begin_training(self) -> None:
        """Restores callbacks, which have forgotten all as training began."""
        # Refused now, rather than after hours.
        self._states.captured({})
        if self._to_come is not None:
            states = self._to_come.about.get("callbacks", {})
            before = 0 if self._replay is None else self._batch
            self._states.restore(
                states, self._to_come.arrays, batches_before=before
            )
            fill_history(self.model, self._to_come.about)

    def _arrive(self) -> None:
        """Restores all where the backup was made: now."""
        if self._to_come is None:
            return
        backup, self._to_come = self._to_come, None
        if self._replay is not None and self._strategy.is_chief:
            self._replay.tell()
        # Callbacks that have gone the way once more may have changed it.
        self._restore_model(backup)
        if self._replay is None:
            # Nothing of the epoch is passed over, or told of once more.
            self._batch = 0
        if lost := self._states.arrive(backup, self._strategy):
            self._say(
                "What callbacks remember is restored where it is known. "
                f"Received some that begin anew: {'; '.join(lost)}. Give a "
                "callback of your own `get_state()` and `set_state(state)`, "
                "and keep the list of callbacks as it was."
            )

    def _begin_epoch(self, epoch: int) -> None:
        """Backs up what the last epoch and all callbacks have left."""
        if not self._batch or self._replay is None:
            self._arrive()
        if epoch != self._epoch or (self._batch and not self._replays):
            self._epoch, self._batch = epoch, 0
            self._save()

    def _end_update(self, decided: frozenset[str]) -> None:
        if self._replays:
            if self._replay is not None and self._replay.is_through:
                self._arrive()
            return
        is_due = (
            self.save_freq != "epoch"
            and self._updates.now() - self._saved_at >= self.save_freq
        )
        ends = decided & {"interrupt", "terminate"}
        if is_due or ends or "backup" in decided:
            self._save(in_epoch=True)
        elif "memory" in decided:
            self._save(in_epoch=True, on_disk=False)
        if ends:
            self.backups.wait(is_last=True)

    @property
    def _replays(self) -> bool:
        return self._replay is not None and self._replay.is_on

    def _save(self, *, in_epoch: bool = False, on_disk: bool = True) -> None:
        if on_disk:
            self._saved_at = self._updates.now()
            self._saved_when = self._clock()
        with (
            own_board().during(State.SAVING),
            self.backups.pause(on_disk=on_disk),
        ):
            self._save_now(in_epoch=in_epoch, on_disk=on_disk)
        own_board().note(backup=self._updates.now())

    def _save_now(self, *, in_epoch: bool, on_disk: bool) -> None:
        # A model that was compiled again has other variables.
        state = TrainingState(self.model, self._strategy)
        arrays = state.captured(in_epoch=in_epoch, is_kept=on_disk)
        randoms = self._randoms.captured()
        if not self._strategy.is_chief:
            return
        about = {
            "epoch": self._epoch,
            "batch": self._batch,
            **self._course.place(in_epoch=in_epoch),
            "replicas": self._strategy.num_replicas_in_sync,
            "random_by": self._strategy.random_by,
            **self._size.about(),
            "updates": self._updates.now(),
            "compiled": self._updates.optimizers_before,
            **history_of(self.model),
            "has_ended": self._has_ended,
            "callbacks": self._states.captured(arrays),
            "random": randoms,
        }
        backup = Backup(arrays, about)
        self.backups.save(about["updates"], backup, on_disk=on_disk)

    def _restore(self, backup: Backup) -> None:
        about = backup.about
        in_steps_of_now = functools.partial(self._size.in_steps_of_now, about)
        batch = in_steps_of_now(about["batch"])
        is_over = (about["epoch"], batch) > (self.params["epochs"], 0)
        if not is_over:
            self._size.check(about, self._found_in or self.backups.path)
        self._restore_model(backup)
        is_in_order, self._replay = self._course.go_to(
            about, in_steps_of_now, lambda: self._restore_model(backup)
        )
        for message in differences(
            about,
            is_in_order=is_in_order,
            replicas=self._strategy.num_replicas_in_sync,
            random_by=self._strategy.random_by,
            updates_per_epoch=self._size.updates_per_epoch,
            is_over=is_over,
            epochs=self.params["epochs"],
            folder=self.backups.path,
        ):
            self._say(message)
        self._updates.set(about.get("updates", self._updates.now()))
        self._updates.optimizers_before = about.get("compiled", 0)
        if self._strategy.is_chief:
            place = f"epoch {about['epoch'] + 1}, batch {batch}"
            print(f"Resuming at {place}, from {self._found_in}.", flush=True)
        self._restored = self._to_come = backup
        self._epoch, self._batch = about["epoch"], batch
        has_stopped = about.get("has_ended") or self._states.has_stopped(
            about.get("callbacks", {})
        )
        last = max(self.params["epochs"], about["epoch"])
        keras_fit.begin_at_epoch(
            self.model, last if has_stopped else about["epoch"]
        )

    def _restore_model(self, backup: Backup) -> None:
        arrays = arrays_of_model(backup.arrays)
        state = TrainingState(self.model, self._strategy)
        state.check(arrays)
        state.restore(arrays)
        if self._batch:
            state.restore_metrics(arrays)

    def _say(self, message: str) -> None:
        if self._strategy.is_chief:
            warnings.warn(message, stacklevel=3)
