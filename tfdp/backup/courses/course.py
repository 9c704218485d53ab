"""Where in its data a fit is, as a backup says it, and how it gets there."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import keras

from tfdp.backup.courses.numbered_course import NumberedCourse
from tfdp.backup.courses.one_course import OneCourse
from tfdp.backup.courses.replay import Replay
from tfdp.strategy import AsynchronousStrategy


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

    def micro_batch(self) -> int | None:
        """Returns samples of a full step; `None` where nobody knows."""

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


def course_of(model: keras.Model) -> Course:
    """Returns the course of the `fit` that is running.

    Args:
        model: The model that is fitted.
    """
    strategy = model.distribute_strategy
    if isinstance(strategy, AsynchronousStrategy):
        return NumberedCourse()
    return OneCourse(model, strategy)
