"""Batches that are items, each computed when it is asked for."""

import concurrent.futures
import random
import sys
from collections.abc import Callable
from typing import Any

import keras

from tfdp.cluster.membership import membership
from tfdp.data.grain_data import is_grain
from tfdp.data.numbered.feeding import EndOfData


class ItemBatches:
    """Items of a `keras.utils.PyDataset`, or of what is like it.

    Args:
        item: Returns an item at a place.
        total: How many there are; `None` if they have no end.
        seed: Seed of their order, another one in each epoch; `None` for their
            own.
        threads: How many of them are computed at once; those ahead are of the
            numbers that a worker has while nobody is lost.
        between_epochs: Called once for each epoch that Keras did not begin,
            where others had begun before.

    Attributes:
        total: As given.
    """

    def __init__(
        self,
        item: Callable[[int], Any],
        total: int | None,
        *,
        seed: int | None = None,
        threads: int = 1,
        between_epochs: Callable[[], None] = lambda: None,
    ) -> None:
        self._item = item
        self.total = total
        self._seed = seed
        self._threads = threads
        self._between_epochs = between_epochs
        self._epochs_before = 0

    @property
    def facts(self) -> dict[str, Any]:
        """What must be the same on all workers, by name."""
        return {"the seed of the order": self._seed}

    def epoch(self, number: int) -> "_Epoch":
        """Begins an epoch, the items of which Keras has begun."""
        for _ in range(number - self._epochs_before):
            self._between_epochs()
        self._epochs_before = number + 1
        order = None
        if self._seed is not None and self.total is not None:
            order = list(range(self.total))
            random.Random(f"{self._seed} {number}").shuffle(order)
        return _Epoch(self._item, self.total, order, self._threads)


def grain_items(dataset: Any) -> ItemBatches | None:
    """Returns the elements of a `grain.MapDataset`, which are batches.

    Args:
        dataset: A dataset or loader of Grain's.

    Returns:
        Them; `None` where they cannot be computed one by one.
    """
    if not is_grain(dataset, "MapDataset"):
        return None
    count = len(dataset)
    return ItemBatches(
        lambda place: keras.tree.lists_to_tuples(dataset[place]),
        None if count >= sys.maxsize else count,
    )


class _Epoch:
    def __init__(
        self,
        item: Callable[[int], Any],
        total: int | None,
        order: list[int] | None,
        threads: int,
    ) -> None:
        self._item = item
        self._total = total
        self._order = order
        self._threads = threads
        self._pool = (
            concurrent.futures.ThreadPoolExecutor(threads)
            if threads > 1
            else None
        )
        self._ahead: dict[int, concurrent.futures.Future[Any]] = {}

    def batch(self, number: int) -> Any:
        if self._total is not None and number >= self._total:
            raise EndOfData(self._total)
        if self._pool is None:
            return self._at(number)
        step = membership().num_workers
        for later in range(number, number + self._threads * step, step):
            is_there = self._total is None or later < self._total
            if is_there and later not in self._ahead:
                self._ahead[later] = self._pool.submit(self._at, later)
        return self._ahead.pop(number).result()

    def close(self, *, is_over: bool) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def _at(self, number: int) -> Any:
        return self._item(
            number if self._order is None else self._order[number]
        )
