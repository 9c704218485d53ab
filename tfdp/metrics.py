"""Metrics of a batch as a whole, made those of one device."""

from typing import Any

import keras
import tensorflow as tf

from tfdp.step import local_samples, rows_of_all


@keras.saving.register_keras_serializable(package="tfdp")
class DistributedMetric(keras.metrics.Metric):
    """Makes any metric that of the whole batch, however it is divided.

    Keras has each replica see its part of a batch, and adds up what they have
    counted. That is right for sums and means over samples, as most metrics
    are, and for what is computed from counts, as `AUC` is. Wrap those whose
    value depends on the batch as a whole: a `Dice` coefficient, a correlation,
    a range. They see the labels and predictions of all replicas at once.

    What is seen is the micro-batch: with several of them to an update, a
    metric of the batch is that of each micro-batch.

    Args:
        metric: What `compile` takes as a metric: a `keras.metrics.Metric`, a
            function of labels and predictions, or a name.
        name: Optional name. Defaults to the wrapped metric's.

    Raises:
        ValueError: If `metric` is `None`, or if Keras knows no such metric.
        RuntimeError: In training, under a strategy of several replicas that
            is not one of tfdp's.

    Example:

    >>> def spread(y_true, y_pred):
    ...     return keras.ops.max(y_pred) - keras.ops.min(y_pred)
    >>> metric = DistributedMetric(spread)
    >>> metric.update_state([[0.0], [0.0]], [[1.0], [4.0]])
    >>> metric.name, float(metric.result())
    ('spread', 3.0)
    """

    def __init__(self, metric: Any, *, name: str | None = None) -> None:
        if metric is None:
            raise ValueError(
                "`metric` must be a metric. Received: metric=None. Pass a "
                "`keras.metrics.Metric`, a function, or a name."
            )
        inner = _as_metric(metric)
        known_as = metric if isinstance(metric, str) else inner.name
        super().__init__(name=name or known_as, dtype=inner.dtype)
        self.metric = inner

    def update_state(
        self, y_true: Any, y_pred: Any, sample_weight: Any = None
    ) -> None:
        """Counts the batch once, on one replica.

        Args:
            y_true: Labels of this replica.
            y_pred: Predictions of this replica.
            sample_weight: Weights of the samples, or `None`.
        """
        context = tf.distribute.get_replica_context()
        if context is None or context.num_replicas_in_sync == 1:
            self._update(y_true, y_pred, sample_weight)
            return
        if local_samples() is None:
            raise RuntimeError(
                "`DistributedMetric` needs a strategy that counts samples. "
                f"Received: {type(context.strategy).__name__}. Use a tfdp "
                "strategy, such as `tfdp.auto_strategy()`."
            )
        (y_true, y_pred, sample_weight), is_first = rows_of_all(
            (y_true, y_pred, sample_weight)
        )

        def update() -> tf.Tensor:
            self._update(y_true, y_pred, sample_weight)
            return tf.constant(0)

        tf.cond(is_first, update, lambda: tf.constant(0))

    def result(self) -> Any:
        """Returns the wrapped metric's result."""
        return self.metric.result()

    def reset_state(self) -> None:
        """Resets the wrapped metric."""
        self.metric.reset_state()

    def get_config(self) -> dict[str, Any]:
        """Returns the configuration, for saving.

        Returns:
            Arguments of the constructor, the wrapped metric serialised.
        """
        return {
            "metric": keras.saving.serialize_keras_object(self.metric),
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "DistributedMetric":
        """Creates a metric from its configuration.

        Args:
            config: What `get_config` returned.

        Returns:
            The metric.
        """
        metric = keras.saving.deserialize_keras_object(config["metric"])
        return cls(metric, name=config["name"])

    def _update(self, y_true: Any, y_pred: Any, sample_weight: Any) -> None:
        if sample_weight is None:
            self.metric.update_state(y_true, y_pred)
        else:
            self.metric.update_state(
                y_true, y_pred, sample_weight=sample_weight
            )


def _as_metric(identifier: Any) -> keras.metrics.Metric:
    metric = keras.metrics.get(identifier)
    if isinstance(metric, keras.metrics.Metric):
        return metric
    name = getattr(metric, "__name__", type(metric).__name__)
    return keras.metrics.MeanMetricWrapper(metric, name=name)
