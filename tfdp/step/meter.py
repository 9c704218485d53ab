"""Times at which a replica, inside of a step, is somewhere."""

import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfdp.step.clock import GraphClock
from tfdp.step.gradients import Gradient
from tfdp.step.requests import RequestLog
from tfdp.step.samples import local_samples, step_arguments, step_began
from tfdp.step.waiting import tensors_in

CAPACITY = 1024


class Settings(NamedTuple):
    """What a meter measures by.

    Attributes:
        clock: Returns the time in seconds; `None` for TensorFlow's own, which
            is that of `time.time`.
        samples_fn: Returns how many samples a replica is given, a scalar
            tensor, called as the step is; `None` for the size of the batch.
        capacity: Micro-batches between two readings; of more the oldest are
            lost.
    """

    clock: Callable[[], float] | None = None
    samples_fn: Callable[..., tf.Tensor] | None = None
    capacity: int = CAPACITY


class StepMeter:
    """Writes down what time it is on each replica, in the graph of a step.

    For each micro-batch four numbers: when its data was there, when its
    gradients were, when they had been reduced (0 where they wait for the end
    of a cycle), and its samples. A step waits for the first of these stamps,
    and for no other; its data for that of the request. Where a device works
    asynchronously, as GPUs do, they say when work was handed to it.

    Graphs that are made while it is off have no stamps.

    Args:
        settings: What to measure by.

    Attributes:
        settings: As given.
        is_missing: Whether a graph may lack stamps.
        requests: When data was asked for; from the first start on.
    """

    requests: RequestLog

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.is_missing = True
        self._traces = 0
        self._clock = GraphClock(settings.clock)
        self._is_on = False
        self._strategy: Any = None
        # Each replica has a thread of its own, in which its graph is made.
        self._begun = threading.local()

    @property
    def traces(self) -> int:
        """How often a graph with stamps was made."""
        return self._traces + self.requests.traces

    def start(self, strategy: Any) -> None:
        """Stamps what is traced from now on; a collective the first time.

        Graphs that lack stamps must have been dropped.

        Args:
            strategy: The tfdp strategy whose replicas are measured.
        """
        if self._strategy is None:
            self._strategy = strategy
            with strategy.scope():
                self._rows = _replica_local(
                    tf.zeros((self.settings.capacity, 4), tf.float64)
                )
                self._count = _replica_local(tf.zeros((), tf.int64))
            self.requests = RequestLog(
                strategy, self._clock, self.settings.capacity
            )
        self._read = self._counts()
        self._is_on = True
        self.is_missing = False
        strategy.step_clock = self._now
        self.resume()

    def pause(self) -> None:
        """Lets data that iterators begun from now on give go unnoticed."""
        if self._is_on:
            self._strategy.request_clock = None

    def resume(self) -> None:
        """Ends a pause."""
        if self._is_on:
            self._strategy.request_clock = self.requests.stamp

    def stop(self) -> None:
        """Stamps nothing that is traced from now on."""
        self.pause()
        self._is_on = False
        self._strategy.step_clock = None

    def end_micro_batch(
        self, gradients: Sequence[Gradient], *, is_last: bool
    ) -> None:
        """Stamps a micro-batch, in replica context.

        Args:
            gradients: Gradients of this replica.
            is_last: Whether a reduction follows in any case.

        Raises:
            ValueError: If `samples_fn` does not return one number.
        """
        if not self._is_on:
            self.is_missing = True
            return
        if not tf.executing_eagerly():
            self._traces += 1
        ready = _time_after(_values(gradients), self._now)
        if is_last:
            self._begun.row = step_began(), ready, self._samples()
            return
        zero = tf.zeros((), tf.float64)
        self._write(step_began(), ready, zero, self._samples())

    def end_reduction(self, gradients: Sequence[Gradient]) -> None:
        """Stamps the reduction after the last micro-batch.

        Args:
            gradients: Gradients reduced over all replicas.
        """
        if not self._is_on:
            return
        reduced = _time_after(_values(gradients), self._now)
        row = self._begun.__dict__.pop("row", None)
        if row is not None:
            began, ready, samples = row
            self._write(began, ready, reduced, samples)
            return
        place = (self._count.read_value() - 1) % self.settings.capacity
        tf.raw_ops.ResourceScatterNdUpdate(
            ref=self._rows.handle,
            indices=tf.stack([place, 2])[tf.newaxis],
            updates=reduced[tf.newaxis],
        )

    def _write(self, *row: tf.Tensor) -> None:
        # Each operation more would cost a microsecond of a step.
        count = self._count.handle
        place = tf.raw_ops.ReadVariableOp(resource=count, dtype=tf.int64)
        tf.raw_ops.ResourceScatterUpdate(
            resource=self._rows.handle,
            indices=place % self.settings.capacity,
            updates=tf.stack(row),
        )
        tf.raw_ops.AssignAddVariableOp(
            resource=count, value=tf.ones((), tf.int64)
        )

    def read(self) -> list[np.ndarray]:
        """Returns what was written since the last call.

        Returns:
            For each replica of this worker an array of shape
            `[micro_batches, 4]`.
        """
        capacity = self.settings.capacity
        before, self._read = self._read, self._counts()
        rows = self._strategy.experimental_local_results(self._rows)
        return [
            variable.numpy()[
                np.arange(max(first, last - capacity), last) % capacity
            ]
            for variable, first, last in zip(
                rows, before, self._read, strict=True
            )
        ]

    def _now(self) -> tf.Tensor:
        # What is chained to other replicas would wait for them.
        if self.settings.clock is None and len(self._read) == 1:
            return self._clock.now()
        return self._clock.beside(self._count.handle)

    def _counts(self) -> list[int]:
        counts = self._strategy.experimental_local_results(self._count)
        return [int(count.numpy()) for count in counts]

    def _samples(self) -> tf.Tensor:
        if self.settings.samples_fn is None:
            return tf.cast(local_samples(), tf.float64)
        args, kwargs = step_arguments()
        samples = tf.convert_to_tensor(
            self.settings.samples_fn(*args, **kwargs)
        )
        if samples.shape.rank != 0:
            raise ValueError(
                "`samples_fn` must return one number for a replica's batch. "
                f"Received: a tensor of shape {samples.shape}. Add it up, as "
                "by `tf.reduce_sum`."
            )
        return tf.cast(samples, tf.float64)


def stamped(
    now: Callable[[], tf.Tensor], args: Any, kwargs: Any
) -> tuple[tf.Tensor, Any, Any]:
    """Stamps the begin of a step, which waits for the stamp.

    Args:
        now: Returns the time, a scalar tensor.
        args: What the step is called with.
        kwargs: Likewise.

    Returns:
        The time when all of that was there, and what to call the step with.
    """
    began = _time_after(tensors_in((args, kwargs)), now)

    def after(value: Any) -> Any:
        # Variables stay what they are.
        return tf.identity(value) if tensors_in(value) else value

    with tf.control_dependencies([began]):
        args, kwargs = tf.nest.map_structure(after, (args, kwargs))
    return began, args, kwargs


def _time_after(
    tensors: Sequence[tf.Tensor], now: Callable[[], tf.Tensor]
) -> tf.Tensor:
    with tf.control_dependencies(tensors):
        return now()


def _values(gradients: Sequence[Gradient]) -> list[tf.Tensor]:
    return [
        each.values if isinstance(each, tf.IndexedSlices) else each
        for each in gradients
    ]


def _replica_local(value: tf.Tensor) -> tf.Variable:
    return tf.Variable(
        value,
        trainable=False,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.SUM,
    )
