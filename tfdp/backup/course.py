"""Where in its data a fit is, as a backup says it, and how it gets there."""

import zlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import keras

from tfdp.backup.data_position import DataPosition, Position
from tfdp.backup.replay import Replay
from tfdp.strategy import AsynchronousStrategy, DataParallelStrategy
from tfdp.upstream.tensorflow import tf_runtime

_SHUFFLED = (
    "Data must be shuffled by TensorFlow and by a seed, or an epoch cannot be "
    "resumed. Received: a shuffling without a seed, or Python code that yields "
    "the data. After a restart some samples of the epoch are seen twice, and "
    "others not. Call `keras.utils.set_random_seed` at the start of the "
    "program, and use a `tf.data.Dataset`."
)
_UNNUMBERED = (
    "Batches must have numbers, or an epoch of asynchronous workers cannot be "
    "resumed. Received: data that each worker goes through by itself. After a "
    "restart the epoch begins anew, and what was seen of it is seen twice."
)


class Course(Protocol):
    """The way of a `fit` through its data."""

    def begin_step(self) -> None:
        """Says that a step will take its batches now."""

    def end_step(self, batches: int) -> None:
        """Says that a step has taken its batches."""

    def place(self, *, in_epoch: bool) -> dict[str, Any]:
        """Returns where it is, as JSON can hold it.

        Args:
            in_epoch: Whether an epoch is under way.
        """

    def steps(self, params: Mapping[str, Any]) -> int | None:
        """Returns how many an epoch has, where another run has as many.

        Args:
            params: Parameters of the fit.
        """

    def complaint(self) -> str:
        """Returns why an epoch could not be resumed; nothing if it could."""

    def go_to(
        self,
        about: Mapping[str, Any],
        in_steps_of_now: Callable[[int], int],
        restore: Callable[[], None],
    ) -> tuple[bool, Replay | None]:
        """Goes to where a backup was made.

        Args:
            about: What the backup says of itself.
            in_steps_of_now: From batches of then to batches of now.
            restore: Called once all callbacks have begun the epoch, if batches
                of it are passed over.

        Returns:
            Whether the data are in the order of then, and what passes over
            batches, if they are.
        """


class OneCourse:
    """That of replicas whose steps are one; batches are passed over.

    Args:
        model: The model that is fitted.
        strategy: The strategy in whose scope it was built.
    """

    def __init__(
        self, model: keras.Model, strategy: DataParallelStrategy
    ) -> None:
        self._model, self._drawn_seed = model, strategy.drawn_seed
        self._position = DataPosition()
        self.begin_step = self._position.begin_step
        self.end_step = self._position.end_step

    def place(self, *, in_epoch: bool) -> dict[str, Any]:
        """Returns how often the data were begun, and what was taken since."""
        position = self._position
        now = position.in_epoch if in_epoch else position.of_next_epoch
        return {"position": list(now), "order": position.order}

    def steps(self, params: Mapping[str, Any]) -> int | None:
        """Returns what Keras knows."""
        return params.get("steps")

    def complaint(self) -> str:
        """Returns why another process would draw another order, if so."""
        is_repeatable = self._position.is_repeatable(self._drawn_seed)
        return "" if is_repeatable else _SHUFFLED

    def go_to(
        self,
        about: Mapping[str, Any],
        in_steps_of_now: Callable[[int], int],
        restore: Callable[[], None],
    ) -> tuple[bool, Replay | None]:
        """Begins the data as often as they were, and jumps or passes over."""
        batch = in_steps_of_now(about["batch"])
        begun, taken = about["position"]
        position = Position(begun, in_steps_of_now(taken))
        is_there = self._position.go_to(position)
        replay = Replay(
            self._model,
            self._position,
            batches=batch,
            ahead=position.batches - batch,
            reads=not self._position.jump(position.batches),
            restore=restore if batch else lambda: None,
        )
        return is_there and about["order"] == self._position.order, replay


class NumberedCourse:
    """That of workers that take batches by their numbers.

    The server knows which are done, and nothing is passed over. Of which
    samples a batch is, follows from the seed and the epoch.

    Args:
        strategy: The strategy of the workers.
    """

    def __init__(self, strategy: AsynchronousStrategy) -> None:
        self._feed = strategy.feed

    def begin_step(self) -> None:
        """Does nothing: the server counts."""

    def end_step(self, batches: int) -> None:
        """Does nothing: the server counts."""

    def place(self, *, in_epoch: bool) -> dict[str, Any]:
        """Returns the seed of the order."""
        seed = str(tf_runtime.global_seed()).encode()
        return {"position": [0, 0], "order": zlib.crc32(seed)}

    def steps(self, params: Mapping[str, Any]) -> int | None:
        """Returns `None`: who is there takes what is left."""
        return None

    def complaint(self) -> str:
        """Returns that batches have no numbers, where they have none."""
        return "" if self._feed.is_used else _UNNUMBERED

    def go_to(
        self,
        about: Mapping[str, Any],
        in_steps_of_now: Callable[[int], int],
        restore: Callable[[], None],
    ) -> tuple[bool, Replay | None]:
        """Goes nowhere: the server hands out what is not done."""
        is_same = about["order"] == self.place(in_epoch=True)["order"]
        return is_same or not self._feed.is_used, None


def course_of(model: keras.Model) -> Course:
    """Returns the course of the `fit` that is running.

    Args:
        model: The model that is fitted.
    """
    strategy = model.distribute_strategy
    if isinstance(strategy, AsynchronousStrategy):
        return NumberedCourse(strategy)
    return OneCourse(model, strategy)
