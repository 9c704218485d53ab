"""The loss of a batch, of its parts, and of one replica of several."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from tfdp.audits.findings import Finding
from tfdp.losses import DistributedLoss
from tfdp.step import (
    LossWeight,
    counted,
    divisions,
    noting_divisions,
    taken_weight,
)
from tfdp.upstream.keras import (
    inspection,
    keras_fit,
    keras_losses,
    keras_models,
)


def findings(
    model: keras.Model, batch: Any, parts_of_it: list[Any]
) -> Iterator[Finding]:
    """Compares the loss of a batch with those of its parts, and of a replica.

    Args:
        model: A built model.
        batch: Inputs, labels and sample weights.
        parts_of_it: The same, divided in two.
    """
    whole, _ = _loss(model, batch)
    again, _ = _loss(model, batch)
    if not _are_close(model, whole, again):
        # Random also outside of training, so that there is no comparing.
        return
    losses = [loss for loss, _ in inspection.losses(model)]
    if not any(isinstance(loss, DistributedLoss) for loss in losses):
        replicas, share = _share(model, batch)
        if not _are_close(model, replicas * share, whole):
            yield Finding(
                "A replica's loss must be divided by the number of replicas, "
                "and once.",
                f"a loss of {type(model).__name__} that is not: its gradient "
                f"would be {times(replicas * share, whole)} as large",
                "error",
                "Divide what Keras does not by `tf.distribute.get_strategy()."
                "num_replicas_in_sync`; leave its own losses, and what "
                "`add_loss` is given, as they are.",
            )
            return
    elif len(losses) > 1 or inspection.adds_losses(model):
        # No one weight puts the whole together from its parts.
        return
    parts = [_loss(model, part) for part in parts_of_it]
    weight = parts[0][1]
    if weight.spans_micro_batch:
        return
    terms = [loss * float(each.value) for loss, each in parts]
    if not weight.adds:
        total = sum(float(each.value) for _, each in parts) or 1.0
        terms = [term / total for term in terms]
    together = sum(terms)
    size = int(keras.tree.flatten(batch[0])[0].shape[0])
    if not _are_close(model, together, whole, *terms):
        yield Finding(
            "A loss must be a mean over samples.",
            f"a loss of {whole:.4g} for {size} samples, whose parts make "
            f"{together:.4g}",
            "error",
            "Wrap it: tfdp.DistributedLoss(loss), with over='batch' if it "
            "compares samples.",
        )


def times(value: float, whole: float) -> str:
    """Says how much larger one number is than another."""
    if abs(whole) < 1e-12:
        return "not"
    ratio = value / whole
    if abs(ratio - 0.5) < 1e-3:
        return "half"
    return "twice" if abs(ratio - 2) < 1e-3 else f"{ratio:.3g} times"


def _loss(model: keras.Model, batch: Any) -> tuple[float, LossWeight]:
    x, y, sample_weight = batch
    # One that `call` returns may be all that a `compute_loss` differentiates.
    is_own = keras_fit.is_own(model, "compute_loss")
    divided = noting_divisions(None) if is_own else contextlib.nullcontext()
    with counted((x,)), divided:
        y_pred = keras_models.outputs_of(model, x)
        loss = model.compute_loss(x, y, y_pred, sample_weight)
        weight = taken_weight()
    return float(loss), weight or LossWeight(tf.constant(1.0))


def _share(model: keras.Model, batch: Any) -> tuple[int, float]:
    """Returns the loss of one of several replicas, and their number."""
    strategy = model.distribute_strategy
    workers = getattr(strategy, "num_workers", 1)
    if strategy.num_replicas_in_sync == 1 or workers > 1:
        with _TwoReplicas("CPU:0").scope():
            return 2, _loss(model, batch)[0]
    losses = strategy.run(lambda: _loss(model, batch)[0])
    first, *_ = strategy.experimental_local_results(losses)
    return strategy.num_replicas_in_sync, float(first)


def _are_close(model: keras.Model, a: float, b: float, *terms: float) -> bool:
    """Whether two sums are equal, by the digits of their terms."""
    is_half = model.compute_dtype in ("bfloat16", "float16")
    tolerance = 2e-2 if is_half else 1e-4
    return abs(a - b) <= tolerance * max(map(abs, (a, b, *terms, 1e-6)))


class _TwoReplicas(tf.distribute.OneDeviceStrategy):
    """One device that says it is one of two."""

    @property
    def num_replicas_in_sync(self) -> int:
        """How many replicas Keras divides by; none inside of a layer."""
        if divisions() is None and keras_losses.divides_inside_of_a_layer():
            return 1
        return 2
