"""What a batch of data tells: outputs, losses and metrics, whole and parted."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from tfdp.audits import (
    loss_comparison,
    metric_audit,
    output_audit,
    step_audit,
)
from tfdp.audits.findings import Finding
from tfdp.upstream.keras import inspection, keras_fit, keras_models

_ROWS = 64  # Of data, enough to tell.


def findings(model: keras.Model, data: Any) -> Iterator[Finding]:
    """Computes losses and metrics of a batch, and of parts of it, and compares.

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
    found: list[Finding] = []
    # The loss of some is in their step alone.
    looks_at_loss = (
        not has_own_step
        or bool(inspection.losses(model))
        or keras_fit.is_own(model, "compute_loss")
    )
    if looks_at_loss:
        found = _in_losses(model, data)
    if has_own_step and not any(each.severity == "error" for each in found):
        in_step = _in_step(model, data)
        found += [_unseen(model)] if in_step is None else in_step
    yield from found


def _in_losses(model: keras.Model, data: Any) -> list[Finding]:
    try:
        batch = _batch(data)
        size = int(keras.tree.flatten(batch[0])[0].shape[0]) if batch else 0
        if not batch or size < 2:
            raise _TooFew(
                "`data` must have at least two samples, to be split. "
                f"Received: {size} in the batch that was looked at."
            )
        return _found_in(model, batch, size)
    except _TooFew:
        raise
    except Exception:
        # The step may call the model, or unpack the batch, in its own way.
        if not keras_fit.is_own(model, "train_step"):
            raise
        return []


def _in_step(model: keras.Model, data: Any) -> list[Finding] | None:
    try:
        batch = _rows(_first(data), 0, _ROWS)
    except Exception:  # In a way of its own.
        return None
    return step_audit.findings(model, batch)


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
            return [
                *(looks or loss_comparison.findings(model, batch, parts)),
                *metric_audit.findings_in_data(model, batch, parts),
            ]
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


def _first(data: Any) -> Any:
    """Returns a batch as a step takes it; `None` where there is none."""
    if isinstance(data, tf.data.Dataset):
        return next(iter(data.take(1)), None)
    if isinstance(data, keras.utils.PyDataset):
        return data[0]
    return data


def _batch(data: Any) -> tuple[Any, Any, Any] | None:
    data = _first(data)
    if data is None:
        return None
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
