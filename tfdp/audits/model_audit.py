"""What cannot be repaired from outside of a model, found and named."""

import dataclasses
import functools
from collections.abc import Iterable, Iterator
from typing import Any

import keras
import tensorflow as tf

from tfdp.audits import (
    asynchronous_audit,
    batch_audit,
    loss_audit,
    metric_audit,
    stage_audit,
)
from tfdp.audits.findings import Finding, Findings
from tfdp.compilation import RULE, WAY_OUT, layers_without_jit, refusal
from tfdp.data import is_marked
from tfdp.optimizer import DistributedOptimizer
from tfdp.precision import half_precision_findings
from tfdp.strategy import DataParallelStrategy
from tfdp.upstream.keras import inspection, keras_models, keras_steps


def audit(model: keras.Model, data: Any = None) -> Findings:
    """Looks for what would make a model train differently on several replicas.

    `callbacks.DataParallel` does so at the begin of training, without data: it
    raises errors and warns of warnings. The model's values stay what they are,
    and no worker waits for another: the chief alone may call it.

    | Found                                            | Severity | Needs data |
    | ------------------------------------------------ | -------- | ---------- |
    | model or compile outside of the scope            | error    | no         |
    | `jit_compile` with a step of one's own           | error    | no         |
    | a loss that returns one scalar                   | error    | no         |
    | a loss over a mask or ignored classes; a sum     | error    | no         |
    | a DistributedLoss beside others, accumulating    | error    | no         |
    | a Stage whose index no group has                 | error    | no         |
    | a loss not divided by the number of replicas     | error    | yes        |
    | a `train_step` whose gradients do not add up     | error    | yes        |
    | any other loss that is no mean over samples      | error    | yes        |
    | outputs that depend on others in the batch       | error    | yes        |
    | `jit_compile` with a layer that cannot be        | warning  | no         |
    | a metric that returns one scalar                 | warning  | no         |
    | any other metric of the batch as a whole         | warning  | yes        |
    | an optimizer that is not a DistributedOptimizer  | warning  | no         |
    | a loss divided by sample weights, if there are   | warning  | no         |
    | a softmax or loss in half precision              | warning  | no         |
    | a synchronized layer, with asynchronous workers  | warning  | no         |
    | updates by asynchronous workers                  | note     | no         |
    | `BatchNormalization` that is not synchronized    | note     | no         |
    | `BatchNormalization` that sees micro-batches     | note     | no         |
    | a layer whose stage cannot be told, with groups  | note     | no         |
    | a `train_step` that it cannot look into          | note     | yes        |
    | a `tf.data.Dataset` that each worker reads whole | note     | yes        |

    On one replica without accumulation nothing is divided, and what is found
    about losses is but a note.

    Args:
        model: A compiled model, built or not; what depends on shapes is only
            looked at once it is built, which it is by `data`.
        data: A batch as `train_step` sees it, of at least two samples: a tuple
            `(x, y)` or `(x, y, sample_weight)` of arrays or tensors, or a
            `tf.data.Dataset` or `keras.utils.PyDataset`, of which the first
            batch is taken. Defaults to `None`.

    Returns:
        The findings, worst first; empty for a sound model.

    Raises:
        TypeError: If `model` is no Keras model.
        ValueError: If `model` is not compiled, or `data` has less than two
            samples.
        RuntimeError: If called with data in the scope of a strategy, or, on
            several workers, with data and a model that is not built, which
            the workers would have to do together.

    Example:

    >>> strategy = tfdp.MirroredStrategy(tfdp.testing.logical_cpus(4)[:2])
    >>> with strategy.scope():
    ...     model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    ...     optimizer = tfdp.DistributedOptimizer(keras.optimizers.SGD(0.1))
    ...     model.compile(optimizer, keras.losses.Tversky())
    >>> print(tfdp.audit(model))  # doctest: +NORMALIZE_WHITESPACE
    error: A loss must be a mean over samples. Received: `tversky`, which
    returns one scalar per batch. Wrap it: tfdp.DistributedLoss(loss).
    """
    if not isinstance(model, keras.Model):
        raise TypeError(
            "`model` must be a `keras.Model`. Received: "
            f"model={model!r} (of type {type(model).__name__})."
        )
    if not model.compiled:
        raise ValueError(
            "`model` must be compiled. Received: a model that is not. Call "
            "`model.compile(...)` in the strategy's scope first."
        )
    findings = Findings(
        [
            *_scope(model),
            *_compilation(model),
            *_losses(loss_audit.findings(model), model),
            *_metrics(model),
            *_optimizers(model),
            *_precision(model),
            *_statistics(model),
            *stage_audit.findings(model),
            *asynchronous_audit.findings(model),
            *_reading(model, data),
        ]
    )
    if data is not None and not findings.of("error"):
        found = batch_audit.findings(model, data)
        findings.extend(_losses(found, model))
    order = ["error", "warning", "note"]
    return Findings(sorted(findings, key=lambda f: order.index(f.severity)))


@functools.cache
def _no_strategy() -> type[tf.distribute.Strategy]:
    """Returns the class of what TensorFlow calls the default strategy."""
    with tf.Graph().as_default():  # This may be called in a scope.
        return type(tf.distribute.get_strategy())


def _scope(model: keras.Model) -> Iterator[Finding]:
    rule = "The model must be built and compiled in the strategy's scope."
    way_out = (
        "Move building the model and `model.compile(...)` into "
        "`with strategy.scope():`."
    )
    strategy = model.distribute_strategy
    if isinstance(strategy, _no_strategy()):
        yield Finding(
            rule,
            "a model made outside of any scope, which would train on one "
            "device, and on each worker for itself",
            "error",
            way_out,
        )
    if not isinstance(strategy, DataParallelStrategy):
        return
    metrics = [v for metric in model.metrics for v in metric.variables]
    drawn = []
    if keras_steps.compiles(model):
        # No function that is compiled reaches those of another device.
        drawn = [each.state for each in keras_models.seed_generators(model)]
    outside = [
        variable.path
        for variable in (*model.weights, *metrics, *drawn)
        if not strategy.extended.variable_created_in_scope(variable.value)
    ]
    if outside:
        yield Finding(
            rule,
            f"{len(outside)} variables made outside of it, such as "
            f"{outside[0]}",
            "error",
            way_out,
        )


def _compilation(model: keras.Model) -> Iterator[Finding]:
    refused = refusal(model) if keras_steps.compiles(model) else None
    if refused:
        yield Finding(RULE, refused, "error", f"{WAY_OUT}.")
    named = layers_without_jit(model)
    if named and keras_steps.was_refused(model):
        yield Finding(
            "Keras compiles nothing where a layer says that it cannot be.",
            f"jit_compile=True and the {named}",
            "warning",
            f"{WAY_OUT}, or do without; what prepares data belongs into "
            "`tf.data`.",
        )


def _losses(
    findings: Iterable[Finding], model: keras.Model
) -> Iterator[Finding]:
    """Passes on findings about losses; notes where nothing is divided yet."""
    accumulates = any(
        getattr(optimizer, "accumulation_steps", 1) > 1
        for optimizer in inspection.optimizers(model)
    )
    for finding in findings:
        if _replicas(model) == 1 and not accumulates:
            finding = dataclasses.replace(finding, severity="note")
        yield finding


def _metrics(model: keras.Model) -> Iterator[Finding]:
    if _replicas(model) > 1:
        yield from metric_audit.findings(model)


def _optimizers(model: keras.Model) -> Iterator[Finding]:
    if _replicas(model) == 1:
        return
    for optimizer in inspection.optimizers(model):
        if not isinstance(optimizer, DistributedOptimizer):
            yield Finding(
                "Gradients must be weighed by samples, and clipped once they "
                "are summed.",
                f"the optimizer `{optimizer.name}`, which clips on each "
                "replica, and weighs all replicas alike",
                "warning",
                "Wrap it: tfdp.DistributedOptimizer(optimizer).",
            )


def _precision(model: keras.Model) -> Iterator[Finding]:
    for message in half_precision_findings(model):
        where, _, way_out = message.partition(". ")
        yield Finding(
            "Probabilities and losses need the digits of float32.",
            where,
            "warning",
            way_out,
        )


def _statistics(model: keras.Model) -> Iterator[Finding]:
    if _replicas(model) == 1:
        return
    found = [
        f"`{layer.name}`"
        for layer in inspection.layers(model)
        if isinstance(layer, keras.layers.BatchNormalization)
        and layer.trainable
        and not inspection.synchronizes(layer)
    ]
    if found:
        yield Finding(
            "Batch statistics are those of each replica's samples.",
            ", ".join(found),
            "note",
            "`callbacks.DataParallel` averages the moving statistics; for "
            "those of the whole micro-batch give the layer synchronized=True.",
        )


def _reading(model: keras.Model, data: Any) -> Iterator[Finding]:
    workers = getattr(model.distribute_strategy, "num_workers", 1)
    is_dataset = isinstance(data, tf.data.Dataset)
    if workers > 1 and is_dataset and not is_marked(data):
        yield Finding(
            "Workers can read their own samples alone.",
            f"a dataset without `tfdp.shard`, of which each of {workers} "
            "workers reads all samples, and drops those of the others",
            "note",
            "Write `dataset.apply(tfdp.shard)` before what takes long.",
        )


def _replicas(model: keras.Model) -> int:
    return model.distribute_strategy.num_replicas_in_sync
