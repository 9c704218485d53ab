"""Losses that are not the mean over samples that replicas take them for."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from tfdp.audits import output_audit
from tfdp.audits.findings import Finding
from tfdp.losses import DistributedLoss
from tfdp.step import LossWeight, counted, taken_weight
from tfdp.upstream import (
    inspection,
    keras_fit,
    keras_losses,
    keras_models,
)

_RULE = "A loss must be a mean over samples."
_WRAP = "Wrap it: tfdp.DistributedLoss(loss)."
_ROWS = 64  # Of data, enough to tell.


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


def findings_in_data(model: keras.Model, data: Any) -> Iterator[Finding]:
    """Computes the loss of a batch, and of parts of it, and compares.

    Args:
        model: A compiled model.
        data: A batch, or a dataset of batches.

    Raises:
        ValueError: If there are fewer than two samples.
        RuntimeError: In the scope of a strategy, or of a model that is not
            built, on several workers.
    """
    if tf.distribute.has_strategy():
        raise RuntimeError(
            "An audit with data compares with one device. Received: a call in "
            f"the scope of {type(tf.distribute.get_strategy()).__name__}. "
            "Call it outside of `with strategy.scope():`."
        )
    has_own_step = keras_fit.is_own(model, "train_step")
    if (
        has_own_step
        and not inspection.losses(model)
        and not keras_fit.is_own(model, "compute_loss")
    ):
        yield _unseen(model)
        return
    try:
        batch = _batch(data)
        size = int(keras.tree.flatten(batch[0])[0].shape[0]) if batch else 0
        if not batch or size < 2:
            raise _TooFew(
                "`data` must have at least two samples, to be split. "
                f"Received: {size} in the batch that was looked at."
            )
        found = list(_found_in(model, batch, size))
    except _TooFew:
        raise
    except Exception:
        # The step may call the model, or unpack the batch, in its own way.
        if not has_own_step:
            raise
        found = [_unseen(model)]
    yield from found


class _TooFew(ValueError):
    pass


def _found_in(model: keras.Model, batch: Any, size: int) -> list[Finding]:
    """Compares losses, and leaves the model's values as they are."""
    with contextlib.ExitStack() as stack:
        if getattr(model.distribute_strategy, "num_workers", 1) > 1:
            _check_built(model)
            stack.enter_context(keras_models.loss_of_its_own(model))
        else:
            with model.distribute_strategy.scope():
                keras_models.build(model, batch)
        # Of this worker: to read a metric's would be to wait for the others.
        strategy = model.distribute_strategy
        state = [
            own
            for variable in (
                *model.metrics_variables,
                *model.non_trainable_variables,
            )
            for own in strategy.experimental_local_results(variable.value)
        ]
        before = [variable.numpy() for variable in state]
        try:
            split = size // 3 + 1
            ends = ((0, split), (split, size))
            parts = [_rows(batch, *each) for each in ends]
            looks = output_audit.findings(
                model, batch[0], [x for x, *_ in parts]
            )
            if looks is None:
                return []
            return looks or list(_compared(model, batch, parts, size))
        finally:
            for variable, value in zip(state, before, strict=True):
                if (variable.numpy() != value).any():
                    variable.assign(value)


def _check_built(model: keras.Model) -> None:
    if not keras_models.has_variables(model):
        raise RuntimeError(
            "A model of several workers is built by all of them, and an audit "
            f"is each worker's own. Received: {type(model).__name__}, which "
            "is not built. Call it on a batch, or give it a `keras.Input`, on "
            "every worker, in the strategy's scope."
        )


def _unseen(model: keras.Model) -> Finding:
    return Finding(
        "An audit computes the loss that `compile` was given.",
        f"`{type(model).__name__}.train_step`, which has a way of its own, "
        "and was not looked at",
        "note",
        "Let what it differentiates be a mean over samples: a loss of "
        "Keras's, or one that it divides by the number of replicas.",
    )


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
            _WRAP,
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
    elif _is_scalar(loss, output):
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


def _is_scalar(loss: keras.losses.Loss, output: Any) -> bool:
    """Whether a loss is one scalar; of an unknown output, of any."""
    known = [(None, 2), (None, 3, 2), (None, 4, 4, 3)]
    shapes = known if output is None else [output.shape]
    found = [_returns_scalar(loss, shape) for shape in shapes]
    told = [each for each in found if each is not None]
    return bool(told) and all(told)


def _returns_scalar(loss: keras.losses.Loss, output: Any) -> bool | None:
    predictions = tf.TensorSpec(output, loss.dtype)
    # Labels have the shape of predictions, or are class numbers.
    for shape in (output, output[:-1]):
        labels = tf.TensorSpec(shape, loss.dtype)
        traced = tf.function(loss.call, autograph=False)
        try:
            function = traced.get_concrete_function(labels, predictions)
        except Exception:
            continue
        shapes = tf.nest.flatten(function.output_shapes)
        return bool(shapes) and shapes[0] == tf.TensorShape([])
    return None


def _batch(data: Any) -> tuple[Any, Any, Any] | None:
    if isinstance(data, tf.data.Dataset):
        data = next(iter(data.take(1)), None)
        if data is None:
            return None
    elif isinstance(data, keras.utils.PyDataset):
        data = data[0]
    return _rows(keras.utils.unpack_x_y_sample_weight(data), 0, _ROWS)


def _rows(batch: Any, start: int, stop: int) -> Any:
    def of(tensor: Any) -> Any:
        if tensor is None:
            return None
        if not isinstance(tensor, tf.SparseTensor):
            return tf.convert_to_tensor(tensor)[start:stop]
        shape = list(map(int, tensor.dense_shape))
        return tf.sparse.slice(
            tensor, [start, *(0 for _ in shape[1:])], [stop - start, *shape[1:]]
        )

    return keras.tree.map_structure(of, batch)


def _compared(
    model: keras.Model, batch: Any, halves: list[Any], size: int
) -> Iterator[Finding]:
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
                f"would be {_times(replicas * share, whole)} as large",
                "error",
                "Divide what Keras does not by `tf.distribute.get_strategy()."
                "num_replicas_in_sync`; leave its own losses, and what "
                "`add_loss` is given, as they are.",
            )
            return
    elif len(losses) > 1 or inspection.adds_losses(model):
        # No one weight puts the whole together from its parts.
        return
    parts = [_loss(model, half) for half in halves]
    weight = parts[0][1]
    if weight.spans_micro_batch:
        return
    terms = [loss * float(each.value) for loss, each in parts]
    if not weight.adds:
        total = sum(float(each.value) for _, each in parts) or 1.0
        terms = [term / total for term in terms]
    together = sum(terms)
    if not _are_close(model, together, whole, *terms):
        yield Finding(
            _RULE,
            f"a loss of {whole:.4g} for {size} samples, whose parts make "
            f"{together:.4g}",
            "error",
            f"{_WRAP[:-1]}, with over='batch' if it compares samples.",
        )


def _times(value: float, whole: float) -> str:
    if abs(whole) < 1e-12:
        return "not"
    ratio = value / whole
    if abs(ratio - 0.5) < 1e-3:
        return "half"
    return "twice" if abs(ratio - 2) < 1e-3 else f"{ratio:.3g} times"


def _loss(model: keras.Model, batch: Any) -> tuple[float, LossWeight]:
    x, y, sample_weight = batch
    with counted((x,)):
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
        return 1 if keras_losses.divides_inside_of_a_layer() else 2
