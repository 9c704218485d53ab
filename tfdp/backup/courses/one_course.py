"""The course of replicas whose steps are one."""

from collections.abc import Callable, Mapping
from typing import Any

import keras

from tfdp.backup.courses.data_position import DataPosition, Position
from tfdp.backup.courses.replay import Replay
from tfdp.strategy import DataParallelStrategy

_SHUFFLED = (
    "Data must be shuffled by TensorFlow and by a seed, or an epoch cannot be "
    "resumed. Received: a shuffling without a seed, or Python code that yields "
    "the data. After a restart some samples of the epoch are seen twice, and "
    "others not. Call `keras.utils.set_random_seed` at the start of the "
    "program, and use a `tf.data.Dataset`."
)


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

    def micro_batch(self) -> int | None:
        """Returns what the data tell."""
        return self._position.micro_batch

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
