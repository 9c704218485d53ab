"""A place where all that live meet; nobody waits for the dead."""

import threading
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from tfdp.asynchronous.staleness import Lost

Result = TypeVar("Result")
# Who comes late is told what came of it.
_KEPT = 2


class Barrier(Generic[Result]):
    """Has workers wait for each other, and tells all the same.

    Those are waited for that lived when the first one came, and live still.
    Who joins later may come too, before or after the others have gone on.

    Args:
        combine: Makes the result of what those brought that came, by worker.

    Example:

    >>> barrier = Barrier(lambda brought: sum(brought.values()))
    >>> barrier.join(0)
    >>> barrier.meet(0, "epoch 0", 5)
    5
    """

    def __init__(self, combine: Callable[[Mapping[int, Any]], Result]) -> None:
        self._combine = combine
        self._changed = threading.Condition()
        self._lives: dict[int, object] = {}
        self._expected: dict[object, set[int]] = {}
        self._brought: dict[object, dict[int, Any]] = {}
        self._results: dict[object, Result | Exception] = {}

    def join(self, worker: int) -> None:
        """Lets a worker come; it is waited for from the next meeting on."""
        with self._changed:
            self._drop(worker)
            self._lives[worker] = object()

    def lose(self, worker: int) -> None:
        """Has nobody wait for a worker."""
        with self._changed:
            self._drop(worker)
            self._lives.pop(worker, None)
            for key in list(self._brought):
                self._conclude(key)
            self._changed.notify_all()

    @property
    def is_empty(self) -> bool:
        """Whether nobody may come."""
        with self._changed:
            return not self._lives

    def meet(self, worker: int, key: object, brought: Any = None) -> Result:
        """Waits until all that live have come.

        Args:
            worker: Who comes.
            key: Which meeting it is.
            brought: What it adds to the result.

        Returns:
            What `combine` has made of it.

        Raises:
            Lost: If the worker is lost, before or meanwhile.
            Exception: What `combine` has raised, at all of them.
        """
        with self._changed:
            life = self._lives.get(worker)
            if life is None:
                raise Lost(f"worker {worker}")
            if key not in self._results:
                self._expected.setdefault(key, set(self._lives))
                self._brought.setdefault(key, {})[worker] = brought
                self._conclude(key)
            self._changed.wait_for(
                lambda: (
                    key in self._results or self._lives.get(worker) is not life
                )
            )
            if self._lives.get(worker) is not life:
                raise Lost(f"worker {worker}")
            result = self._results[key]
        if isinstance(result, Exception):
            raise result
        return result

    def _conclude(self, key: object) -> None:
        brought = self._brought[key]
        if not brought or self._expected[key] - brought.keys():
            return
        try:
            self._results[key] = self._combine(brought)
        except Exception as error:
            self._results[key] = error
        del self._expected[key], self._brought[key]
        for old in list(self._results)[:-_KEPT]:
            del self._results[old]
        self._changed.notify_all()

    def _drop(self, worker: int) -> None:
        for key, brought in self._brought.items():
            brought.pop(worker, None)
            self._expected[key].discard(worker)
