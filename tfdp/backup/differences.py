"""What is other than when a backup was made, in words."""

import os
from collections.abc import Iterator, Mapping
from typing import Any


def differences(
    about: Mapping[str, Any],
    *,
    is_in_order: bool,
    replicas: int,
    random_by: str,
    updates_per_epoch: int | None,
    is_over: bool,
    epochs: int,
    folder: str | os.PathLike[str],
) -> Iterator[str]:
    """Says what a run that resumes does otherwise than the one before.

    Args:
        about: What the backup says of itself.
        is_in_order: Whether the data are in the order of then.
        replicas: How many there are now.
        random_by: What random layers draw numbers for now.
        updates_per_epoch: How many there are now, if that is known.
        is_over: Whether the backup was made after more epochs.
        epochs: How many there are now.
        folder: Where the backup is.

    Returns:
        Warnings.
    """
    if not is_in_order:
        yield (
            "The data must be in the order in which they were when the "
            "backup was made. Received: a dataset shuffled by another "
            "seed. Some samples of this epoch are seen twice now, and "
            "others not. Call `keras.utils.set_random_seed` at the start "
            "of the program, with the same number each time."
        )
    if replicas != about["replicas"]:
        yield (
            f"Resuming on {replicas} replicas a backup made on "
            f"{about['replicas']}: the updates stay those of the same "
            "global batch, if `BatchPlan` is given the same; batch "
            f"statistics are their mean, and {_masks(random_by)}."
        )
    before = about.get("random_by", "replica")
    if random_by != before:
        yield (
            "Random layers go on as they began. Received: "
            f"random_by={random_by!r}, with a backup made with "
            f"random_by={before!r}. They draw other numbers from now on; make "
            "the strategy as it was for the same ones."
        )
    if updates_per_epoch != about["updates_per_epoch"]:
        yield (
            "The data must be those of the run that was interrupted. "
            f"Received: {updates_per_epoch} updates per epoch, instead of "
            f"{about['updates_per_epoch']}. The place in them is counted "
            "from their begin; delete the backup to begin anew."
        )
    if is_over:
        yield (
            "There must be epochs left to train. Received: "
            f"epochs={epochs}, with a backup made after "
            f"{about['epoch']} epochs in {folder}. Nothing is "
            "trained; give `fit` more epochs, or delete the backup."
        )
    if about.get("compiled"):
        yield (
            "A training is resumed with the optimizer that it begins "
            "with. Received: a backup made after the model had been "
            "compiled again, in the middle of a `fit`. Its updates go on "
            "with the values that were saved, but with the arguments of "
            "now. Give each phase a `fit` of its own, from "
            "`initial_epoch` on."
        )


def _masks(random_by: str) -> str:
    if random_by == "sample":
        return "dropout draws the same masks"
    return "dropout draws other masks, as it would not by random_by='sample'"
