"""Losses that are not the mean over samples that replicas take them for."""

from collections.abc import Iterator
from typing import Any

import keras

from tfdp.audits.findings import Finding
from tfdp.audits.scalars import is_scalar
from tfdp.losses import DistributedLoss
from tfdp.upstream.keras import inspection, keras_losses

_RULE = "A loss must be a mean over samples."
_WRAP = "Wrap it: tfdp.DistributedLoss(loss)."


def findings(model: keras.Model) -> Iterator[Finding]:
    """Finds what losses and outputs tell without data.

    Args:
        model: A compiled model.
    """
    losses = inspection.losses(model)
    wrapped = [loss for loss, _ in losses if isinstance(loss, DistributedLoss)]
    for loss, output in losses:
        if not isinstance(loss, DistributedLoss):
            yield from _of_plain(model, keras_losses.as_loss(loss), output)
    accumulates = any(
        getattr(optimizer, "accumulation_steps", 1) > 1
        for optimizer in inspection.optimizers(model)
    )
    if wrapped and accumulates:
        yield from _beside_wrapped(wrapped, len(losses), model)


def _of_plain(
    model: keras.Model, loss: keras.losses.Loss, output: Any
) -> Iterator[Finding]:
    if loss.reduction in (None, "none"):
        yield Finding(
            "A loss must be reduced to one number per batch.",
            f"`{loss.name}` with reduction='none'",
            "error",
            "Use reduction='sum_over_batch_size', the default.",
        )
    elif keras_losses.overrides_call(loss):
        yield Finding(
            "A loss must leave `Loss.__call__` to Keras, which divides there "
            "by the number of replicas.",
            f"`{loss.name}`, whose class {type(loss).__name__} overrides it, "
            "so that its gradient would be too large by that number",
            "error",
            "Override `call(y_true, y_pred)` instead, and return a value for "
            "each sample.",
        )
    elif loss.reduction == "sum":
        yield Finding(
            _RULE,
            f"`{loss.name}` with reduction='sum', whose parts are to be added",
            "error",
            f"{_WRAP} Where replicas update alone or late, as with LocalSGD, "
            "use reduction='sum_over_batch_size'.",
        )
    elif (ignored := _ignored_class(loss)) is not None:
        yield Finding(
            _RULE,
            f"`{loss.name}` with ignore_class={ignored}, which "
            "divides by the number of the others",
            "error",
            _WRAP,
        )
    elif output is not None and keras_losses.has_mask(
        output, inspection.layers(model)
    ):
        yield Finding(
            _RULE,
            f"`{loss.name}` of an output with a mask, which divides by what "
            "the mask leaves",
            "error",
            f"{_WRAP[:-1]}, or end the mask before the output.",
        )
    elif is_scalar(loss.call, loss.dtype, output):
        yield Finding(
            _RULE,
            f"`{loss.name}`, which returns one scalar per batch",
            "error",
            _WRAP,
        )
    elif loss.reduction == "mean_with_sample_weight":
        yield Finding(
            _RULE,
            f"`{loss.name}`, which divides by the sum of sample weights, if "
            "there are any",
            "warning",
            _WRAP,
        )


def _beside_wrapped(
    wrapped: list[DistributedLoss], count: int, model: keras.Model
) -> Iterator[Finding]:
    rule = (
        "While gradients accumulate, one weight must serve the whole gradient "
        "of a step."
    )
    if count > 1:
        yield Finding(
            rule,
            f"several losses, of which `{wrapped[0].name}` is a "
            "DistributedLoss, averaged over something of its own",
            "error",
            "Use accumulation_steps=1, losses that are means over samples, or "
            "a single one.",
        )
    layers = [model, *inspection.layers(model)]
    activity = [
        layer
        for layer in layers
        if getattr(layer, "activity_regularizer", None) is not None
    ]
    weights = [v for v in model.trainable_weights if v.regularizer is not None]
    is_sum = any(each.reduction == "sum" for each in wrapped)
    if activity or (is_sum and weights):
        by = activity[0].name if activity else weights[0].path
        yield Finding(
            rule,
            f"the DistributedLoss `{wrapped[0].name}` beside a regularizer of "
            f"`{by}`, which is no part of it",
            "error",
            "Use accumulation_steps=1 or a loss that is a mean over samples, "
            "or remove the regularizer.",
        )


def _ignored_class(loss: keras.losses.Loss) -> int | None:
    if isinstance(loss, keras.losses.SparseCategoricalCrossentropy):
        # Since Keras 3.16 it is no attribute.
        return loss.get_config().get("ignore_class")
    return getattr(loss, "ignore_class", None)
