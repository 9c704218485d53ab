"""Losses that are not the mean over samples that replicas take them for."""

import inspect
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from tfdp import _keras, inspection
from tfdp.findings import Finding
from tfdp.losses import DistributedLoss
from tfdp.samples import LossWeight, counted, taken_weight

_RULE = "A loss must be a mean over samples."
_WRAP = "Wrap it: tfdp.DistributedLoss(loss)."
_ROWS = 64  # Of data, enough to tell.


def findings(model: keras.Model) -> Iterator[Finding]:
    """Finds what losses and outputs tell without data.

    Args:
        model: A compiled model.
    """
    losses = inspection.losses(model)
    wrapped = [each for each in losses if isinstance(each, DistributedLoss)]
    for each in losses:
        if not isinstance(each, DistributedLoss):
            yield from _of_plain(_keras.as_loss(each), model)
    if wrapped:
        yield from _beside_wrapped(wrapped, len(losses), model)


def findings_in_data(model: keras.Model, data: Any) -> Iterator[Finding]:
    """Computes the loss of a batch, and of parts of it, and compares.

    Args:
        model: A compiled model.
        data: A batch, or a dataset of batches.

    Raises:
        ValueError: If there are fewer than two samples.
    """
    losses = inspection.losses(model)
    if not losses and type(model).compute_loss is keras.Model.compute_loss:
        # A `train_step` of the user's own computes it.
        return
    batch = _batch(data)
    size = len(keras.tree.flatten(batch[0])[0])
    if size < 2:
        raise ValueError(
            "`data` must have at least two samples, to be split. Received: "
            f"{size} in the batch that was looked at."
        )
    state = [*model.metrics_variables, *model.non_trainable_variables]
    before = [variable.numpy() for variable in state]
    yield from _compared(model, batch, size)
    for variable, value in zip(state, before, strict=True):
        if (variable.numpy() != value).any():
            variable.assign(value)


def _of_plain(loss: keras.losses.Loss, model: keras.Model) -> Iterator[Finding]:
    outputs = _outputs(model)
    if loss.reduction == "sum":
        yield Finding(
            _RULE,
            f"`{loss.name}` with reduction='sum', whose parts are to be added",
            "error",
            _WRAP,
        )
    elif getattr(loss, "ignore_class", None) is not None:
        yield Finding(
            _RULE,
            f"`{loss.name}` with ignore_class={loss.ignore_class}, which "
            "divides by the number of the others",
            "error",
            _WRAP,
        )
    elif any(_keras.mask_of(output) is not None for output in outputs):
        yield Finding(
            _RULE,
            f"`{loss.name}` of an output with a mask, which divides by what "
            "the mask leaves",
            "error",
            f"{_WRAP[:-1]}, or end the mask before the output.",
        )
    elif any(_is_scalar(loss, output) for output in outputs):
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
    rule = "One weight must serve the whole gradient of a step."
    if max(count, len(_outputs(model))) > 1:
        yield Finding(
            rule,
            f"several losses, of which `{wrapped[0].name}` is a "
            "DistributedLoss, averaged over something of its own",
            "error",
            "Use losses that are means over samples, or a single one.",
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
            "Remove the regularizer, or use a loss that is a mean over "
            "samples.",
        )


def _outputs(model: keras.Model) -> list[Any]:
    """Symbolic outputs; none of a subclassed or unbuilt model."""
    return list(getattr(model, "outputs", None) or [])


def _is_scalar(loss: keras.losses.Loss, output: Any) -> bool:
    predictions = tf.TensorSpec(output.shape, loss.dtype)
    # Labels have the shape of predictions, or are class numbers.
    for shape in (output.shape, output.shape[:-1]):
        labels = tf.TensorSpec(shape, loss.dtype)
        traced = tf.function(loss.call, autograph=False)
        try:
            function = traced.get_concrete_function(labels, predictions)
        except Exception:
            continue
        shapes = tf.nest.flatten(function.output_shapes)
        return bool(shapes) and shapes[0] == tf.TensorShape([])
    return False


def _batch(data: Any) -> tuple[Any, Any, Any]:
    if isinstance(data, tf.data.Dataset):
        data = next(iter(data))
    elif isinstance(data, keras.utils.PyDataset):
        data = data[0]
    return _rows(keras.utils.unpack_x_y_sample_weight(data), slice(_ROWS))


def _rows(batch: Any, rows: slice) -> Any:
    return keras.tree.map_structure(
        lambda t: None if t is None else tf.convert_to_tensor(t)[rows], batch
    )


def _compared(model: keras.Model, batch: Any, size: int) -> Iterator[Finding]:
    whole, _ = _loss(model, batch)
    again, _ = _loss(model, batch)
    if not _are_close(model, whole, again):
        # Random also outside of training, so that there is no comparing.
        return
    losses = inspection.losses(model)
    if whole and not any(isinstance(each, DistributedLoss) for each in losses):
        with _TwoReplicas("CPU:0").scope():
            share, _ = _loss(model, batch)
        if _are_close(model, share, whole):
            yield Finding(
                "A replica's loss must be divided by the number of replicas.",
                f"a loss of {type(model).__name__} that is not: its gradient "
                "would be too large by that number",
                "error",
                "In `compute_loss`, divide what is not from `super()` by "
                "`tf.distribute.get_strategy().num_replicas_in_sync`.",
            )
            return
    split = size // 3 + 1
    parts = [
        _loss(model, _rows(batch, rows))
        for rows in (slice(split), slice(split, None))
    ]
    weight = parts[0][1]
    if weight.spans_micro_batch:
        return
    together = sum(loss * float(each.value) for loss, each in parts)
    if not weight.adds:
        total = sum(float(each.value) for _, each in parts)
        together /= total or 1.0
    if not _are_close(model, together, whole):
        yield Finding(
            _RULE,
            f"a loss of {whole:.4g} for {size} samples, whose parts make "
            f"{together:.4g}",
            "error",
            f"{_WRAP[:-1]}, with over='batch' if it compares samples.",
        )


def _loss(model: keras.Model, batch: Any) -> tuple[float, LossWeight]:
    x, y, sample_weight = batch
    has_training = "training" in inspect.signature(model.call).parameters
    with counted(x):
        y_pred = model(x, training=False) if has_training else model(x)
        loss = model.compute_loss(x, y, y_pred, sample_weight)
        weight = taken_weight()
    return float(loss), weight or LossWeight(tf.constant(1.0))


def _are_close(model: keras.Model, a: float, b: float) -> bool:
    is_half = model.compute_dtype in ("bfloat16", "float16")
    tolerance = 2e-2 if is_half else 1e-4
    return abs(a - b) <= tolerance * max(abs(a), abs(b), 1e-6)


class _TwoReplicas(tf.distribute.OneDeviceStrategy):
    """One device that says it is one of two."""

    num_replicas_in_sync = 2
