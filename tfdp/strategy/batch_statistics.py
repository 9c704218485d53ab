"""Statistics that each replica keeps of its own samples, made one again."""

import keras
import tensorflow as tf

from tfdp.upstream.keras import inspection


class BatchStatistics:
    """Averages what layers such as `BatchNormalization` have observed.

    Each replica moves the statistics of a layer by its own samples, so that
    they drift apart, and those of the first one alone would be saved. Layers
    with `synchronized=True` are left alone: theirs agree at every step.

    Args:
        model: A built model.
        strategy: The strategy in whose scope it was built.
    """

    def __init__(
        self, model: keras.Model, strategy: tf.distribute.Strategy
    ) -> None:
        self._model = model
        self._strategy = strategy
        self._statistics: list[keras.Variable] = []
        self.look()

    def look(self) -> None:
        """Looks for statistics anew, as layers may freeze and thaw.

        A collective where one has frozen since, which has its last say.
        """
        found = _apart(self._model)
        gone = {id(w) for w in self._statistics} - {id(w) for w in found}
        if gone:
            self.average()
        if [id(w) for w in found] != [id(w) for w in self._statistics]:
            self._statistics = found
            self._average = tf.function(
                lambda: self._strategy.run(self._on_replica)
            )

    def average(self) -> None:
        """Gives every replica the mean over replicas; a collective."""
        if self._statistics and self._strategy.num_replicas_in_sync > 1:
            self._average()

    def _on_replica(self) -> None:
        variables = [weight.value for weight in self._statistics]
        means = tf.distribute.get_replica_context().all_reduce(
            tf.distribute.ReduceOp.MEAN, [tf.identity(v) for v in variables]
        )
        for variable, mean in zip(variables, means, strict=True):
            variable.assign(mean)


def _apart(model: keras.Model) -> list[keras.Variable]:
    """Returns the statistics that each replica keeps for itself."""
    agreed = {
        id(weight)
        for layer in inspection.layers(model)
        if inspection.synchronizes(layer)
        for weight in layer.weights
    }
    return [
        weight
        for weight in inspection.statistics(model)
        if id(weight) not in agreed
        and tf.as_dtype(weight.dtype).is_floating
        # Otherwise TensorFlow aggregates it whenever it is assigned.
        and weight.aggregation == "none"
    ]
