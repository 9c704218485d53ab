"""What one worker has measured, step by step, put together by update."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from tfdp.throughput.spans import no_rows, step_rows

_BY_WORKER = (
    *("seconds", "between", "voting", "exchanging", "room", "start"),
    *("updates", "is_left_out"),
)
_BY_REPLICA = ("samples", "input", "compute", "synchronization")


@dataclasses.dataclass(frozen=True)
class StepTimes:
    """Times of a worker's steps, one entry per update.

    Where Keras executes several steps at once, an entry may hold several
    updates.

    Attributes:
        seconds: `[entries]`; time inside of steps.
        between: `[entries]`; time between the end of a step and the begin of
            the next.
        voting: `[entries]`; part of that in which workers vote on stops and
            backups, and wait for each other.
        exchanging: `[entries]`; part of the seconds in which an asynchronous
            worker exchanges gradients for weights.
        room: `[entries]`; part of that in which it waits for room.
        start: `[entries]`; time from the begin of a step until its data is
            asked for: to call the graph, and callbacks that come later.
        updates: `[entries]`; updates made.
        is_left_out: `[entries]`; above 0 where a graph was made, or to warm
            up.
        samples: `[replicas, entries]`; samples trained on.
        input: `[replicas, entries]`; seconds from asking for data until it
            is there.
        compute: `[replicas, entries]`; seconds from data to gradients.
        synchronization: `[replicas, entries]`; seconds from gradients to
            those reduced over all replicas.
    """

    seconds: np.ndarray
    between: np.ndarray
    voting: np.ndarray
    exchanging: np.ndarray
    room: np.ndarray
    start: np.ndarray
    updates: np.ndarray
    is_left_out: np.ndarray
    samples: np.ndarray
    input: np.ndarray
    compute: np.ndarray
    synchronization: np.ndarray

    @property
    def entries(self) -> int:
        """Number of entries."""
        return len(self.seconds)

    def as_vector(self, capacity: int) -> np.ndarray:
        """Returns all numbers in a row, padded for `capacity` entries."""
        table = np.vstack([np.atleast_2d(each) for each in self._arrays()])
        padding = ((0, 0), (0, capacity - self.entries))
        return np.append(np.pad(table, padding).ravel(), self.entries)

    @classmethod
    def from_vector(cls, vector: np.ndarray, replicas: int) -> "StepTimes":
        """Returns what `as_vector` was called on.

        Args:
            vector: What it has returned.
            replicas: Replicas of the worker.
        """
        table = vector[:-1].reshape(
            len(_BY_WORKER) + replicas * len(_BY_REPLICA), -1
        )[:, : int(vector[-1])]
        by_worker = table[: len(_BY_WORKER)]
        by_replica = table[len(_BY_WORKER) :].reshape(
            len(_BY_REPLICA), replicas, -1
        )
        return cls(*by_worker, *by_replica)

    def keeping(self, is_kept: np.ndarray) -> "StepTimes":
        """Returns the entries for which `is_kept`, of shape `[entries]`."""
        return StepTimes(*(each[..., is_kept] for each in self._arrays()))

    def merged(self) -> "StepTimes":
        """Returns all as one entry."""
        return StepTimes(
            *(each.sum(axis=-1, keepdims=True) for each in self._arrays())
        )

    def _arrays(self) -> list[np.ndarray]:
        return [getattr(self, name) for name in (*_BY_WORKER, *_BY_REPLICA)]


class StepLog:
    """Gathers what is measured at each step, until there are updates of it.

    Args:
        replicas: Replicas of this worker.
    """

    def __init__(self, replicas: int) -> None:
        self._begins: list[float] = []
        self._ends: list[float] = []
        self._voting: list[float] = []
        self._exchanging: list[float] = []
        self._room: list[float] = []
        self._is_left_out: list[bool] = []
        self._stamps = [np.zeros((0, 4))] * replicas
        self._requests = np.zeros(0)
        self._numbers: list[int] = []
        self._rows = [no_rows()]
        self._last_end: float | None = None

    def begin_epoch(self) -> None:
        """Says that time before the next step was not between steps."""
        self._last_end = None

    def add_step(
        self,
        begin: float,
        end: float,
        *,
        is_left_out: bool,
        voting: float = 0.0,
        exchanging: float = 0.0,
        room: float = 0.0,
        number: int = -1,
    ) -> None:
        """Adds an execution of steps.

        Args:
            begin: When it began, by the clock of the stamps.
            end: When it ended.
            is_left_out: Whether it is not to be counted, nor time after it.
            voting: Seconds of votes before it.
            exchanging: Seconds of exchanges with a server in it.
            room: Of these, waiting for room.
            number: Which step of the fit it is, to have it in `take_rows`
                too; -1 for no.
        """
        self._numbers.append(number)
        self._voting.append(voting)
        self._exchanging.append(exchanging)
        self._room.append(room)
        self._begins.append(begin)
        self._ends.append(end)
        self._is_left_out.append(is_left_out)

    def add_stamps(
        self,
        stamps: Sequence[np.ndarray],
        requests: Sequence[float] | np.ndarray = (),
    ) -> None:
        """Adds stamps of micro-batches, see `StepMeter.read`.

        Args:
            stamps: For each replica `[micro_batches, 4]`.
            requests: Times at which data was asked for. All of a step before
                its data counts as waiting for it where there are none.
        """
        self._requests = np.append(self._requests, requests)
        self._stamps = [
            np.concatenate(pair)
            for pair in zip(self._stamps, stamps, strict=True)
        ]

    def take(self, *, is_whole: bool) -> StepTimes:
        """Returns the updates that were made, and forgets them.

        Args:
            is_whole: Whether what is left over after the last of them is one
                too; otherwise it is kept for the next time.
        """
        begins, ends = np.array(self._begins), np.array(self._ends)
        located = [_located(each, begins, ends) for each in self._stamps]
        rows, steps = located[0]
        updates = np.bincount(steps[rows[:, 2] > 0], minlength=len(begins))
        trains = np.bincount(steps, minlength=len(begins)) > 0
        if is_whole and trains.any():
            last = np.flatnonzero(trains)[-1]
            updates[last] = max(updates[last], 1)
        closes = updates > 0
        # An entry ends with the step that makes an update.
        entry: np.ndarray = np.cumsum(closes) - closes
        taken = entry < closes.sum()
        between = self._between(begins, ends)
        start = np.where(trains, self._start(begins, ends), 0)
        times = _by_entry(
            entry[taken],
            seconds=np.where(trains, ends - begins, 0)[taken],
            between=between[taken],
            voting=np.minimum(between, self._voting)[taken],
            exchanging=np.array(self._exchanging, float)[taken],
            room=np.array(self._room, float)[taken],
            start=start[taken],
            updates=updates[taken],
            is_left_out=np.array(self._is_left_out, float)[taken],
            by_replica=[
                _parts(rows, steps, begins + start, taken)
                for rows, steps in located
            ],
        )
        numbers = np.where(taken, self._numbers, -1)
        self._rows.append(
            step_rows(numbers, begins, begins + start, ends, located)
        )
        self._keep(~taken, located)
        return times

    def take_rows(self) -> np.ndarray:
        """Returns single steps of what was taken, and forgets them.

        Returns:
            Rows as of `tfdp.throughput.spans`.
        """
        rows, self._rows = np.concatenate(self._rows), [no_rows()]
        return rows

    def _between(self, begins: np.ndarray, ends: np.ndarray) -> np.ndarray:
        if not len(begins):
            return begins
        first = begins[0] if self._last_end is None else self._last_end
        # What follows the making of a graph makes graphs too.
        before = np.where(self._is_left_out, np.append(begins[1:], 0), ends)
        return np.maximum(begins - np.append(first, before[:-1]), 0)

    def _start(self, begins: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Returns the time of each step until it first asked for data."""
        starts = np.zeros(len(begins))
        place = 0
        since = np.searchsorted(self._requests, begins)
        for step, (begin, end) in enumerate(zip(begins, ends, strict=True)):
            # One that is as late as the step before has ended may be its own.
            place = max(place, int(since[step]))
            if place < len(self._requests) and self._requests[place] <= end:
                starts[step] = self._requests[place] - begin
                place += 1
        return starts

    def _keep(
        self,
        is_kept: np.ndarray,
        located: Sequence[tuple[np.ndarray, np.ndarray]],
    ) -> None:
        if not is_kept.all():
            last = np.flatnonzero(~is_kept)[-1]
            self._last_end = self._ends[last]
            if self._is_left_out[last]:
                self._last_end = None
        for name in (
            *("_begins", "_ends", "_voting", "_exchanging", "_room"),
            *("_is_left_out", "_numbers"),
        ):
            values = zip(getattr(self, name), is_kept, strict=True)
            setattr(self, name, [value for value, keep in values if keep])
        self._stamps = [rows[is_kept[steps]] for rows, steps in located]
        since = self._begins[0] if self._begins else np.inf
        self._requests = self._requests[self._requests >= since]


def _located(
    rows: np.ndarray, begins: np.ndarray, ends: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the rows that were stamped inside of a step, and in which."""
    ready = rows[:, 1]
    steps = np.searchsorted(begins, ready) - 1
    is_inside = steps >= 0
    is_inside[is_inside] = ready[is_inside] <= ends[steps[is_inside]]
    return rows[is_inside], steps[is_inside]


def _parts(
    rows: np.ndarray, steps: np.ndarray, asked: np.ndarray, taken: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns samples and seconds of each micro-batch, and its step."""
    began, ready, reduced, samples = rows.T
    over = np.maximum(ready, reduced)
    free = np.maximum(asked[steps], np.append(-np.inf, over)[:-1])
    parts = np.array(
        [
            samples,
            np.maximum(began - free, 0),
            np.maximum(ready - np.maximum(began, free), 0),
            np.maximum(reduced - ready, 0),
        ]
    )
    is_taken = taken[steps]
    return parts[:, is_taken], steps[is_taken]


def _by_entry(
    entry: np.ndarray,
    *,
    by_replica: Sequence[tuple[np.ndarray, np.ndarray]],
    **by_step: np.ndarray,
) -> StepTimes:
    entries = int(entry[-1]) + 1 if len(entry) else 0
    sums = [
        np.bincount(entry, by_step[name], minlength=entries)
        for name in _BY_WORKER
    ]
    split = np.array(
        [
            [
                np.bincount(entry[steps], part, minlength=entries)
                for part in parts
            ]
            for parts, steps in by_replica
        ]
    ).swapaxes(0, 1)
    return StepTimes(*sums, *split)
