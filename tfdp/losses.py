"""Losses whose mean is over something else than samples, made exact."""

from typing import Any, Literal

import keras
import tensorflow as tf

from tfdp.step import LossWeight, local_samples, weighed
from tfdp.upstream.keras import keras_losses


@keras.saving.register_keras_serializable(package="tfdp")
class DistributedLoss(keras.losses.Loss):
    """Makes any loss that of the whole batch, however it is divided.

    Keras computes a loss on each replica, and averages what comes out. That is
    the loss of the whole batch if it is a mean over samples, as most are. Wrap
    those that are not:

    | The loss                                   | What is done              |
    | ------------------------------------------ | ------------------------- |
    | divides by a mask's or ignored classes'    | its gradients are         |
    | count, or by the sum of sample weights     | averaged by these counts  |
    | is a sum (`reduction="sum"`)               | its gradients are added   |
    | returns one scalar (`Dice`, `Tversky`)     | computed on the           |
    |                                            | micro-batch, gathered     |
    | returns one scalar, a mean over samples,   | averaged by samples       |
    | with `over="samples"`                      |                           |
    | compares samples with each other           | computed on the           |
    | (contrastive), with `over="batch"`         | micro-batch, gathered     |

    Gathering gives every replica the labels and predictions of all. The loss
    is then one of the micro-batch, and refused when accumulating, where there
    is no telling the loss of the global batch from those of its parts.

    Beside other losses of the model, what layers add by `add_loss` and
    activity regularizers, each keeps its own weight, in `fit` and unless
    gradients accumulate.

    It needs `tfdp.DistributedOptimizer` inside a tfdp strategy. Elsewhere, on
    one device, it is the loss that it wraps.

    Args:
        loss: What `compile` takes as a loss: a `keras.losses.Loss`, a function
            of labels and predictions, or a name.
        over: `"samples"` where `loss` is a mean, or sum, over samples,
            `"batch"` where its value depends on the batch as a whole, or
            `"auto"`: the latter if it returns one scalar. Defaults to
            `"auto"`.
        name: Optional name. Defaults to the wrapped loss's.

    Raises:
        ValueError: If `over` is none of these, if Keras knows no such loss, or
            if the loss has a `__call__` of its own.
            In training, if several losses of different denominators
            accumulate, or meet in a loop of one's own, if a loss of the whole
            batch accumulates, or if a scalar is weighted by samples.
        RuntimeError: In training, under a strategy that is not one of tfdp's.

    Example:

    >>> loss = DistributedLoss(
    ...     keras.losses.SparseCategoricalCrossentropy(ignore_class=0)
    ... )
    >>> loss.name
    'sparse_categorical_crossentropy'
    """

    def __init__(
        self,
        loss: Any,
        *,
        over: Literal["auto", "samples", "batch"] = "auto",
        name: str | None = None,
    ) -> None:
        if over not in ("auto", "samples", "batch"):
            raise ValueError(
                "`over` must be 'auto', 'samples' or 'batch'. Received: "
                f"over={over!r}."
            )
        if loss is None:
            raise ValueError(
                "`loss` must be a loss. Received: loss=None. Pass a "
                "`keras.losses.Loss`, a function, or a name."
            )
        self.loss = keras_losses.as_loss(loss)
        if self.loss.reduction in (None, "none"):
            raise ValueError(
                "`loss` must be reduced to one number per batch. Received: "
                f"{self.loss.name} with reduction={self.loss.reduction!r}. "
                "Use reduction='sum_over_batch_size', the default."
            )
        if keras_losses.overrides_call(self.loss):
            raise ValueError(
                "`loss` must leave `Loss.__call__` to Keras, which divides "
                "there by the samples and the replicas. Received: "
                f"{type(self.loss).__name__}, which overrides it. Override "
                "`call(y_true, y_pred)` instead."
            )
        self.over = over
        super().__init__(name=name or self.loss.name, dtype=self.loss.dtype)
        self.reduction = self.loss.reduction

    def __call__(
        self, y_true: Any, y_pred: Any, sample_weight: Any = None
    ) -> tf.Tensor:
        """Returns this replica's part of the loss of the whole batch.

        Args:
            y_true: Labels of this replica.
            y_pred: Predictions of this replica.
            sample_weight: Weights of the samples, or `None`.

        Returns:
            Scalar whose sum over replicas is the loss of the micro-batch.
        """
        context = tf.distribute.get_replica_context()
        if context is None:
            # Keras asks for a shape.
            return self.loss(y_true, y_pred, sample_weight)
        samples = local_samples()
        if samples is None:
            if context.num_replicas_in_sync > 1:
                raise RuntimeError(
                    "`DistributedLoss` needs a strategy that counts samples. "
                    f"Received: {type(context.strategy).__name__}. Use a "
                    "tfdp strategy, such as `tfdp.auto_strategy()`."
                )
            return self.loss(y_true, y_pred, sample_weight)
        values, mask = self._values(
            y_true, y_pred, keras_losses.mask_of(y_pred)
        )
        is_scalar = values.shape.rank == 0
        if self.over == "batch" or (is_scalar and self.over == "auto"):
            return self._over_batch(y_true, y_pred, sample_weight, samples)
        if is_scalar and sample_weight is not None:
            raise ValueError(
                "A loss that is one scalar cannot be weighted by samples. "
                f"Received: sample weights for {self.name}, over='samples'. "
                "Let the loss return one value per sample."
            )
        if is_scalar:
            return values / context.num_replicas_in_sync
        return self._over_samples(values, mask, sample_weight, samples)

    def call(self, y_true: Any, y_pred: Any) -> tf.Tensor:
        """Returns what the wrapped loss's `call` does."""
        return self.loss.call(y_true, y_pred)

    def get_config(self) -> dict[str, Any]:
        """Returns the configuration, for saving.

        Returns:
            Arguments of the constructor, the wrapped loss serialised.
        """
        return {
            "loss": keras.saving.serialize_keras_object(self.loss),
            "over": self.over,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "DistributedLoss":
        """Creates a loss from its configuration.

        Args:
            config: What `get_config` returned.

        Returns:
            The loss.
        """
        loss = keras.saving.deserialize_keras_object(config["loss"])
        return cls(loss, over=config["over"], name=config["name"])

    def _values(
        self, y_true: Any, y_pred: Any, mask: tf.Tensor | None
    ) -> tuple[tf.Tensor, tf.Tensor | None]:
        y_true, y_pred = keras.tree.map_structure(
            lambda t: keras.ops.convert_to_tensor(t, dtype=self.dtype),
            (y_true, y_pred),
        )
        values = self.loss.call(y_true, y_pred)
        own_mask = keras_losses.mask_of(values)
        masks = [m for m in (mask, own_mask) if m is not None]
        return values, tf.reduce_all(masks, axis=0) if masks else None

    def _total_and_count(
        self, values: tf.Tensor, mask: tf.Tensor | None, sample_weight: Any
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns what Keras would divide, and what by."""
        total, weights = keras_losses.weighted_sum(values, sample_weight, mask)
        if self.reduction == "sum":
            return total, tf.ones_like(total)
        if self.reduction == "mean_with_sample_weight" and weights is not None:
            return total, tf.reduce_sum(weights)
        weighted = values if weights is None else values * weights
        count = tf.cast(tf.size(weighted), total.dtype)
        if mask is not None:
            valid = tf.reduce_mean(tf.cast(mask, total.dtype))
            count *= valid
        return total, count

    def _over_samples(
        self,
        values: tf.Tensor,
        mask: tf.Tensor | None,
        sample_weight: Any,
        samples: tf.Tensor,
    ) -> tf.Tensor:
        context = tf.distribute.get_replica_context()
        replicas = context.num_replicas_in_sync
        total, count = self._total_and_count(values, mask, sample_weight)
        count = tf.stop_gradient(count)
        own = tf.math.divide_no_nan(total, count)
        is_present = tf.cast(samples > 0, total.dtype)  # Or a made-up row.
        if self.reduction == "sum":
            present = tf.cast(is_present, tf.float32)
            (whole,) = _summed([total * is_present])
            own = weighed(own, LossWeight(present, adds=True))
            return _with_value(own, whole / replicas)
        if mask is None and self.reduction != "mean_with_sample_weight":
            return own / replicas
        weight = LossWeight(tf.cast(count * is_present, tf.float32))
        whole = tf.math.divide_no_nan(
            *_summed([total * is_present, count * is_present])
        )
        own = weighed(own / replicas, weight)
        return _with_value(own, whole / replicas)

    def _over_batch(
        self, y_true: Any, y_pred: Any, sample_weight: Any, samples: tf.Tensor
    ) -> tf.Tensor:
        replicas = tf.distribute.get_replica_context().num_replicas_in_sync
        gathered = _Gathering(samples)
        mask = keras_losses.mask_of(y_pred)
        y_true, y_pred, sample_weight, mask = keras.tree.map_structure(
            lambda t: None if t is None else gathered(t),
            (y_true, y_pred, sample_weight, mask),
        )
        values, mask = self._values(y_true, y_pred, mask)
        if values.shape.rank == 0 and sample_weight is None:
            whole = values
        else:
            whole = tf.math.divide_no_nan(
                *self._total_and_count(values, mask, sample_weight)
            )
        # Replicas with samples weigh alike; each has the gradient by its rows.
        is_present = tf.cast(samples > 0, tf.float32)
        present = tf.cast(gathered.present_replicas, whole.dtype)
        own = weighed(
            whole * present / replicas,
            LossWeight(is_present, spans_micro_batch=True),
        )
        return _with_value(own, whole / replicas)


class _Gathering:
    """Puts the rows of all replicas together, in their order.

    A gradient reaches the rows of the own replica only.
    """

    def __init__(self, samples: tf.Tensor) -> None:
        self._context = tf.distribute.get_replica_context()
        self._own = tf.cast(samples, tf.int32)
        sizes = self._context.all_gather(self._own[tf.newaxis], axis=0)
        self._start = tf.reduce_sum(
            sizes[: self._context.replica_id_in_sync_group]
        )
        self.present_replicas = tf.math.count_nonzero(sizes)

    def __call__(self, tensor: tf.Tensor) -> tf.Tensor:
        if tensor.dtype == tf.bool:
            return tf.cast(self(tf.cast(tensor, tf.int32)), tf.bool)
        # Without the row that is made up where there is none.
        rows = tensor[: self._own]
        everyones = self._context.all_gather(tf.stop_gradient(rows), axis=0)
        return tf.concat(
            [
                everyones[: self._start],
                rows,
                everyones[self._start + self._own :],
            ],
            axis=0,
        )


def _summed(values: list[tf.Tensor]) -> list[tf.Tensor]:
    context = tf.distribute.get_replica_context()
    constants = [tf.stop_gradient(value) for value in values]
    return context.all_reduce(tf.distribute.ReduceOp.SUM, constants)


def _with_value(gradient_of: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
    return gradient_of + tf.stop_gradient(value - gradient_of)
