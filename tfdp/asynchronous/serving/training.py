"""What all workers train together: one model, one queue, who takes part."""

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfdp.asynchronous.batch_queue import Batches, BatchQueue
from tfdp.asynchronous.description import Description, check_arrays
from tfdp.asynchronous.gradients import Gradient, check_update
from tfdp.asynchronous.position import Position
from tfdp.asynchronous.serving.admission import Admission
from tfdp.asynchronous.serving.barrier import Barrier
from tfdp.asynchronous.serving.epoch_statistics import brought_together
from tfdp.asynchronous.serving.figures import by_text, figures
from tfdp.asynchronous.serving.fits import Fits
from tfdp.asynchronous.serving.served_model import ServedModel, Weights
from tfdp.asynchronous.staleness import Lost, Staleness

CHIEF = 0


class Broken(Exception):
    """An update has failed on its way; nobody can train on."""


class Training:
    """Answers what workers ask for; a thread of each calls the methods.

    Nobody reads before the chief does, so that it can load a state. After all
    have ended a `fit`, the next one may begin, with epochs of any number.

    Args:
        max_staleness: The largest staleness of an update.
        num_workers: How many workers are expected.
        unimported: Modules whose classes a model cannot be made of, and why.
            Defaults to none.

    Raises:
        ValueError: If `max_staleness` is no integer of at least 0.
    """

    def __init__(
        self,
        max_staleness: int,
        num_workers: int,
        unimported: Mapping[str, str] | None = None,
    ) -> None:
        self._unimported = unimported
        self.staleness = Staleness(max_staleness)
        self.queue = BatchQueue(num_workers)
        self._model: ServedModel | None = None
        self._admission = Admission()
        self._changed = threading.Lock()
        # Of who joins and who is lost one at a time.
        self._membership = threading.Lock()
        self._living: dict[int, object] = {}
        self._lost: dict[int, str] = {}
        self.fits = Fits()
        self._chief_has_left = False
        self._reads: dict[int, int] = {}
        self._skipped: dict[int, int] = {}
        self._rates: list[tuple[int, float]] = []
        self._averages = Barrier[list[np.ndarray]](self._average)
        self._votes = Barrier[bool](lambda votes: any(votes.values()))
        self._ends = Barrier[Weights](self._end)
        barriers = self._averages, self._votes, self._ends
        self._parts = (self.staleness, self.queue, *barriers)

    def trains(self, description: Description) -> bool:
        """Whether this is the model that the chief has brought."""
        return self._model is not None and self._model.description.is_same(
            description
        )

    @property
    def model(self) -> ServedModel:
        """The model, once the chief has brought it."""
        if self._model is None:
            raise RuntimeError(
                "A model is built before it is trained. Received: none from "
                "the chief. Send its variables first."
            )
        return self._model

    def build(
        self, description: Description, values: Sequence[np.ndarray]
    ) -> None:
        """Takes the chief's model, in place of one that it had before."""
        model = ServedModel(description, values, unimported=self._unimported)
        with self._changed:
            if self._model is not None:
                self.staleness.start_at(0)
            self._model = model

    def join(self, worker: int) -> None:
        """Notes that a worker lives; it takes part once it has begun."""
        with self._changed:
            self._living[worker] = object()
            self._lost.pop(worker, None)
        self.fits.join(worker)

    def begin(
        self, worker: int, description: Description, *, fit: int, opens: bool
    ) -> dict[str, Any]:
        """Lets a worker take part in a fit that trains what the chief trains.

        Others than the chief wait until it has opened the fit.

        Returns:
            Where training is: `"version"`, `"epoch"`, `"fit"`.

        Raises:
            ValueError: If it trains something else.
            Lost: If it is lost while it waits for the chief.
        """
        with self._changed:
            life = self._living.get(worker)
        if worker == CHIEF:
            self._admission.chief = description
        self.fits.begin(worker, fit, is_chief=worker == CHIEF, opens=opens)
        with self._membership:
            if life is None or self._living.get(worker) is not life:
                raise Lost(f"worker {worker}")
            if fit >= self.fits.ended:
                self._admission.check(
                    worker, description, self.fits, self.queue
                )
            for each in self._parts:
                each.join(worker)
        position = self.queue.position
        return {
            "version": self.staleness.version,
            "epoch": position.epoch if position else self.fits.first_epoch,
            "fit": self.fits.ended,
        }

    def lose(self, worker: int, why: str) -> None:
        """Goes on without a worker, whether it had come or not."""
        with self._membership:
            with self._changed:
                self._living.pop(worker, None)
                self._lost[worker] = why
            self.fits.lose(worker)
            # In this order: when others take what it had taken, it can update
            # nothing any more.
            for each in self._parts:
                each.lose(worker)
            self._end_if_left()

    def has_come(self, worker: int) -> bool:
        """Whether a worker takes part, or did and was lost."""
        with self._changed:
            return worker in self._living or worker in self._lost

    def abandon(self, worker: int, *, fit: int) -> None:
        """Goes on without a worker until its next fit; ends the chief's."""
        with self._membership:
            if fit != self.fits.ended:
                return
            if worker == CHIEF:
                self.stop(fit=fit)
                self._chief_has_left = True
            for each in self._parts:
                each.lose(worker)
            self._end_if_left()

    def read(self, worker: int, *, fit: int) -> Weights:
        """Begins a gradient: returns the weights to take it at."""
        if self.fits.is_open(worker, (fit, -1), is_chief=worker == CHIEF):
            return self._read(worker)
        return self._weights()

    def update(
        self,
        worker: int,
        gradients: Sequence[Gradient],
        *,
        step: int,
        batches: Batches,
        then_read: bool,
    ) -> Weights:
        """Applies a gradient.

        Returns:
            The newest weights, and the next read if it was asked for.
        """
        # What is wrong with the worker's own is not everybody's end.
        model = self.model
        where = f"step {step} of worker {worker}"
        check_update(gradients, model.description.variables, where)

        def apply() -> None:
            self._check_taken(worker, batches)
            try:
                model.apply(gradients)
            except Exception as error:
                raise Broken(f"{type(error).__name__}: {error}") from error
            self._done(worker, batches)

        self.staleness.update(worker, step=step, apply=apply)
        return self._after(worker, then_read=then_read)

    def skip(
        self, worker: int, *, batches: Batches, then_read: bool
    ) -> Weights:
        """Gives a read back whose gradient was not finite."""
        self.staleness.release(worker)
        self._done(worker, batches)
        with self._changed:
            self._skipped[worker] = self._skipped.get(worker, 0) + 1
        return self._after(worker, then_read=then_read)

    def release(self, worker: int) -> None:
        """Gives a read back that no update will follow."""
        self.staleness.release(worker)

    def take(
        self, worker: int, *, epoch: int, fit: int, waits: bool = True
    ) -> tuple[int | None, int]:
        """Returns the number of a worker's next batch, if there is one.

        Also the number of the read that it had, and has no more: who has
        nothing to train on must keep nobody waiting.
        """
        released = [0]

        def release() -> None:
            self.staleness.release(worker)
            with self._changed:
                released[0] = self._reads.get(worker, 0)

        def release_if_idle() -> None:
            if self.queue.is_idle(worker):
                release()

        if not self.fits.is_open(
            worker,
            (fit, epoch),
            is_chief=worker == CHIEF,
            before_waiting=release,
        ):
            return None, released[0]
        number = self.queue.take(
            worker, epoch=epoch, before_waiting=release_if_idle, waits=waits
        )
        return number, released[0]

    def give_up(self, worker: int, *, batches: Batches) -> None:
        """Takes note of batches that cannot be read any more."""
        self._done(worker, batches)

    def stop(self, *, fit: int) -> None:
        """Ends a fit where it is; workers hear of it when they vote."""
        if self.fits.stop(fit):
            self.queue.stop()

    def vote(
        self, worker: int, *, stops: bool, meeting: tuple[int, int]
    ) -> bool:
        """Waits for all that live; returns whether any of them stops."""
        self.release(worker)
        if meeting[0] < self.fits.ended:
            return True
        stopped = self._votes.meet(worker, meeting, stops)
        return stopped or self.fits.is_stopped

    def average(
        self,
        worker: int,
        values: Sequence[np.ndarray],
        *,
        samples: float,
        meeting: tuple[int, int],
    ) -> list[np.ndarray]:
        """Returns the mean, or sum, of what all that live have."""
        check_arrays(
            values, self.model.description.statistics, "a value of statistics"
        )
        if meeting[0] < self.fits.ended:
            return list(values)
        self.release(worker)
        return self._averages.meet(worker, meeting, (samples, values))

    def end(self, worker: int, *, fit: int) -> Weights:
        """Waits until all that live have ended, and returns the last."""
        self.release(worker)
        return (
            self._weights()
            if fit < self.fits.ended
            else self._ends.meet(worker, fit)
        )

    def set_learning_rate(self, rate: float) -> None:
        """Sets the rate of all updates from now on."""

        def change() -> None:
            self.model.set_learning_rate(rate)
            self._rates.append((self.staleness.version, rate))

        self.staleness.alone(change)

    def state(self) -> dict[str, np.ndarray]:
        """Returns all that a training is made of, of one version."""

        def copied() -> dict[str, np.ndarray]:
            position = self.queue.position
            arrays = {} if position is None else position.arrays()
            return {**self.model.state(), **arrays}

        return self.staleness.alone(copied)

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Goes on from what `state` has returned, or from a part of it.

        Weights alone may be set between epochs, as nobody updates then.
        """
        rest = dict(state)
        position = Position.taken_from(rest)
        self.model.check_state(rest)

        def change() -> None:
            if rest and position is None and self.model.are_weights(rest):
                self.model.load(rest)
                return
            # Refuses where somebody has read.
            self.staleness.start_at(self.staleness.version)
            self.model.load(rest)
            self.staleness.start_at(self.model.iterations)
            if position is not None:
                self.queue.resume(position)

        self.staleness.alone(change)

    def statistics(self) -> dict[str, Any]:
        """Returns what a monitor shows, by worker where it has one."""
        with self._changed:
            return {
                **figures(self.staleness),
                "skipped": by_text(self._skipped),
                "learning_rates": list(self._rates),
                "living": sorted(self._living),
                "lost": by_text(self._lost),
            }

    def _weights(self, read: int = 0) -> Weights:
        return self.staleness.alone(
            lambda: Weights(self.staleness.version, self.model.values(), read)
        )

    def _read(self, worker: int) -> Weights:
        found: list[list[np.ndarray]] = []
        version = self.staleness.read(
            worker, then=lambda: found.append(self.model.values())
        )
        with self._changed:
            read = self._reads[worker] = self._reads.get(worker, 0) + 1
        return Weights(version, found[0], read)

    def _after(self, worker: int, *, then_read: bool) -> Weights:
        # Who waits for a batch elsewhere must hold no read meanwhile; it may
        # begin to wait while this one waits for room.
        if not then_read or self.queue.is_idle(worker):
            return self._weights()
        weights = self._read(worker)
        if self.queue.is_idle(worker):
            self.staleness.release(worker)
            return Weights(weights.version, weights.values)
        return weights

    def _check_taken(self, worker: int, batches: Batches) -> None:
        if batches.epoch is not None:
            self.queue.check_taken(
                worker, epoch=batches.epoch, numbers=batches.numbers
            )

    def _done(self, worker: int, batches: Batches) -> None:
        if batches.epoch is not None:
            self.queue.done(
                worker, epoch=batches.epoch, numbers=batches.numbers
            )

    def _average(
        self, brought: Mapping[int, tuple[float, Sequence[np.ndarray]]]
    ) -> list[np.ndarray]:
        described = self.model.description.statistics
        return brought_together(brought, [v.summed for v in described])

    def _end_if_left(self) -> None:
        if self._chief_has_left and self._ends.is_empty:
            self._end({})

    def _end(self, brought: Mapping[int, Any]) -> Weights:
        self.staleness.alone(self.model.finalize)
        weights = self._weights()
        self._chief_has_left = False
        self.queue.reset()
        self.fits.end()
        return weights
