"""What an update is made of, in a run and in the one that it resumes."""

import os
from collections.abc import Mapping
from typing import Any

import keras

from tfdp.backup.courses import Course
from tfdp.upstream.keras import inspection


class UpdateSize:
    """How many micro-batches an update sees, and how many samples.

    Args:
        model: The model that is fitted.
        course: Its way through the data.
        params: Parameters of the fit.
    """

    def __init__(
        self, model: keras.Model, course: Course, params: Mapping[str, Any]
    ) -> None:
        self._model, self._course, self._params = model, course, params
        self._micro_batch = course.micro_batch()

    def about(self) -> dict[str, int | None]:
        """Returns what a backup says of it."""
        return {
            "accumulation_steps": self._steps,
            "updates_per_epoch": self.updates_per_epoch,
            "global_batch": self.global_batch,
        }

    @property
    def updates_per_epoch(self) -> int | None:
        """How many there are, where that is known."""
        steps = self._course.steps(self._params)
        return steps and -(-steps // self._steps)

    @property
    def global_batch(self) -> int | None:
        """Samples of a full update; `None` where the data do not tell.

        Nor does a model whose optimizers accumulate over different numbers of
        micro-batches.
        """
        steps = {
            getattr(optimizer, "accumulation_steps", 1)
            for optimizer in inspection.optimizers(self._model)
        }
        if self._micro_batch is None or steps != {self._steps}:
            return None
        return self._micro_batch * self._steps

    def check(
        self, about: Mapping[str, Any], place: str | os.PathLike[str]
    ) -> None:
        """Checks that updates are as large as those before a backup.

        Args:
            about: What the backup says of itself.
            place: Where it is.

        Raises:
            ValueError: If they see another number of samples, and both are
                known.
        """
        before, now = about.get("global_batch"), self.global_batch
        # What a callback has compiled again is not what a program begins with.
        if None in (before, now) or before == now or about.get("compiled"):
            return
        raise ValueError(
            "A backup must be of the global batch that resumes: the place in "
            "the data is counted by updates, as are learning rates. Received: "
            f"a global batch of {now} (micro-batch {self._micro_batch} x "
            f"{self._steps} accumulation steps), with a backup in {place} "
            f"made with one of {before}. Use `BatchPlan(global_batch={before}, "
            "max_per_replica_batch=..., num_replicas=...)`, which keeps it for "
            "any number of replicas; or give another `backup_dir`, or delete "
            "the backup, to begin anew."
        )

    def in_steps_of_now(self, about: Mapping[str, Any], batches: int) -> int:
        """Returns as how many micro-batches those of another run count.

        Args:
            about: What the backup says of itself.
            batches: How many had been taken.
        """
        steps: int = about["accumulation_steps"]
        return batches * self._steps // steps

    @property
    def _steps(self) -> int:
        # Of a model that a callback may have compiled again.
        return getattr(self._model.optimizer, "accumulation_steps", 1)
