"""Slots of which each has one owner, as if they were in one place."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfdp.agreement import all_gather
from tfdp.synchronization.shards.ownership import SlotPlan

# Numbers of 8 bytes that workers exchange at once.
_AT_ONCE = 2**20


class GatheredSlots:
    """All slots of an optimizer, in the order of plain Keras.

    Args:
        plans: What is known of them everywhere.
        here: Each slot, or `None` where another worker has it.
        workers: For each slot, the worker that gives it to the others.
        strategy: The strategy of the replicas.
        iterations: Counts the updates.

    Attributes:
        variables: The slots: in one process the variables themselves, on
            several workers what stands for them.
    """

    def __init__(
        self,
        plans: Sequence[SlotPlan],
        here: Sequence[keras.Variable | None],
        workers: Sequence[int],
        strategy: tf.distribute.Strategy,
        iterations: keras.Variable,
    ) -> None:
        self._plans = plans
        self._workers = workers
        self._strategy = strategy
        self._iterations = iterations
        self._at: int | None = None
        self._values: list[np.ndarray] = []
        self.variables: list[Any] = list(here)
        if getattr(strategy, "num_workers", 1) > 1:
            self.variables = [
                OwnedSlot(plan, slot, self._read_elsewhere, self._forget)
                for plan, slot in zip(plans, here, strict=True)
            ]

    def gather(self) -> list[np.ndarray]:
        """Returns all values on the chief, elsewhere none; a collective."""
        strategy = self._strategy
        if getattr(strategy, "num_workers", 1) == 1:
            return [slot.numpy() for slot in self.variables]
        # Never left out: workers could not tell alike whether it is needed.
        self._values = self._gathered()
        self._at = int(self._iterations.numpy())
        return self._values

    def _gathered(self) -> list[np.ndarray]:
        strategy = self._strategy
        own = b"".join(
            slot.numpy().tobytes()
            for slot, worker in zip(self.variables, self._workers, strict=True)
            if worker == strategy.worker_index
        )
        sizes = [
            sum(
                plan.bytes
                for plan, of in zip(self._plans, self._workers, strict=True)
                if of == worker
            )
            for worker in range(strategy.num_workers)
        ]
        # As integers, which the sum behind the collective leaves as they are.
        length = -(-max(sizes) // 8)
        words = np.frombuffer(own.ljust(length * 8, b"\0"), np.int64)
        tables = []
        for begin in range(0, length, _AT_ONCE):
            table = all_gather(strategy, words[begin : begin + _AT_ONCE])
            if strategy.is_chief:
                tables.append(table)
        if not tables:
            return []
        rows = [row.tobytes() for row in np.concatenate(tables, 1)]
        return list(self._taken_from(rows))

    def _taken_from(self, rows: Sequence[bytes]) -> Iterator[np.ndarray]:
        begin = [0] * len(rows)
        for plan, worker in zip(self._plans, self._workers, strict=True):
            end = begin[worker] + plan.bytes
            yield np.frombuffer(
                rows[worker][begin[worker] : end],
                tf.as_dtype(plan.dtype).as_numpy_dtype,
            ).reshape(plan.shape)
            begin[worker] = end

    def _read_elsewhere(self, slot: "OwnedSlot") -> np.ndarray:
        now = int(self._iterations.numpy())
        if not self._strategy.is_chief or self._at != now:
            raise RuntimeError(
                "The slots of all owners can be saved on the chief, once they "
                f"are gathered there. Received: {slot.path!r}, which another "
                f"worker has, at update {now} on worker "
                f"{self._strategy.worker_index}, gathered "
                f"{'never' if self._at is None else f'at update {self._at}'}. "
                "Call `optimizer.gather_state()` on all workers, and save on "
                "the chief; `callbacks.DataParallel` does so at the end of an "
                "epoch for `ModelCheckpoint`, and at the end of training."
            )
        place = next(i for i, each in enumerate(self.variables) if each is slot)
        return self._values[place]

    def _forget(self) -> None:
        self._at, self._values = None, []


class OwnedSlot:
    """Stands for a slot among the variables of an optimizer, on every worker.

    Args:
        plan: What is known of it everywhere.
        variable: The slot, where it is; elsewhere `None`.
        read: Returns the values of a slot that is elsewhere, or raises.
        changed: Called when values are assigned.
    """

    def __init__(
        self,
        plan: SlotPlan,
        variable: keras.Variable | None,
        read: Callable[["OwnedSlot"], np.ndarray],
        changed: Callable[[], None],
    ) -> None:
        self.path = plan.path
        self.name = plan.path.rpartition("/")[2]
        self.shape = plan.shape
        self.dtype = plan.dtype
        self._variable = variable
        self._read = read
        self._changed = changed

    @property
    def value(self) -> Any:
        """The values."""
        return self.numpy()

    def numpy(self) -> np.ndarray:
        """Returns the values."""
        if self._variable is None:
            return self._read(self)
        return self._variable.numpy()

    def assign(self, value: Any) -> None:
        """Assigns values where the slot is; elsewhere they are its owner's."""
        self._changed()
        if self._variable is not None:
            self._variable.assign(value)
