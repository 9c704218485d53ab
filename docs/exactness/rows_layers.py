"""Rows B: layers that replicas disturb."""

import keras
import numpy as np
import tensorflow as tf
from sides import (
    BATCH,
    FEATURES,
    batches,
    deviation,
    found,
    on_one_device,
    sgd,
)

import tfdp


def _convolution():
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((FEATURES,)),
            keras.layers.Reshape((FEATURES, 1)),
            keras.layers.Conv1D(2, 3),
            keras.layers.Flatten(),
            keras.layers.Dense(1),
        ]
    )


def b7(side):
    """A convolution, and a last batch of 2 for 4 replicas.

    Test: test_strategy.py::test_convolutions_survive_replicas_without_samples
    """
    strategy = side.strategy(4)
    samples = BATCH + 2
    return side.deviation(sgd, samples, strategy=strategy, make=_convolution)


def _normalized():
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((FEATURES,)),
            keras.layers.BatchNormalization(momentum=0.5),
            keras.layers.Dense(1),
        ]
    )


def b7_normalization(side):
    """BatchNormalization there: weights of 25 that are no numbers.

    Test: test_strategy.py::test_statistics_survive_replicas_without_samples
    """
    data = batches(BATCH, BATCH + 2)
    model = side.trained(sgd, data, side.strategy(4), make=_normalized)
    return int(sum(np.isnan(w).sum() for w in model.get_weights()))


def b7_both(side):
    """A convolution there, and synchronized BatchNormalization.

    Test: test_strategy.py::
    test_convolutions_with_synchronized_statistics_survive_them_too
    """

    def make():
        keras.utils.set_random_seed(1)
        synchronized = tf.distribute.has_strategy()
        return keras.Sequential(
            [
                keras.Input((FEATURES,)),
                keras.layers.Reshape((FEATURES, 1)),
                keras.layers.Conv1D(2, 3),
                keras.layers.BatchNormalization(synchronized=synchronized),
                keras.layers.Flatten(),
                keras.layers.Dense(1),
            ]
        )

    strategy = side.strategy(4)
    return side.deviation(sgd, BATCH + 2, strategy=strategy, make=make)


class Scale(keras.layers.Layer):
    """Multiplies each feature by a weight."""

    def build(self, shape):
        """Creates the weights."""
        self.factors = self.add_weight(shape=shape[1:], initializer="ones")

    def call(self, inputs):
        """Multiplies."""
        return inputs * self.factors


def b10(side):
    """Dropout: variance of an update over that of one device.

    Test: test_randomness.py::test_a_fit_draws_different_numbers
    """
    features = 20_000
    strategy = side.strategy()
    data = tf.data.Dataset.from_tensors((tf.ones((4, features)),) * 2)

    def make():
        keras.utils.set_random_seed(1)
        return keras.Sequential(
            [keras.Input((features,)), keras.layers.Dropout(0.5), Scale()]
        )

    fit = {"make": make, "loss": lambda y, p: keras.ops.sum(p, -1), "epochs": 1}
    one = on_one_device(sgd, data, **fit).get_weights()[0]
    actual = side.trained(sgd, data, strategy, **fit).get_weights()[0]
    return float(np.var(actual) / np.var(one))


def b10_by_sample(side):
    """Dropout: a weight of 2 replicas, against one; `random_by="sample"`.

    Test: test_random_by_sample.py::
    test_the_numbers_of_one_replica_for_any_number
    """
    devices = tfdp.testing.logical_cpus(4)

    def make():
        keras.utils.set_random_seed(1)
        layers = [keras.layers.Dropout(0.5), keras.layers.Dense(1)]
        return keras.Sequential([keras.Input((FEATURES,)), *layers])

    def on(replicas):
        strategy = side.strategy(replicas)
        if side.is_tfdp:
            strategy = tfdp.MirroredStrategy(
                devices[:replicas], random_by="sample"
            )
        return side.trained(sgd, batches(), strategy, make=make)

    return deviation(on(2), on(1))


def b11(side):
    """BatchNormalization: how far apart replicas are in its statistics.

    Test: test_batch_statistics.py::
    test_each_epoch_ends_with_the_mean_over_replicas
    """
    strategy = side.strategy()
    model = side.trained(sgd, batches(), strategy, make=_normalized)
    first, second = (
        local.numpy()
        for local in strategy.experimental_local_results(
            model.layers[0].moving_mean.value
        )
    )
    return float(np.max(np.abs(first - second)))


class Centered(keras.layers.Layer):
    """Subtracts the mean over the batch."""

    def __init__(self, gather):
        super().__init__()
        self._gather = gather

    def call(self, x):
        """Returns what is left."""
        return x - tf.reduce_mean(self._gather(x), axis=0)


def _centered(gather=tf.identity):
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((FEATURES,)),
            keras.layers.Dense(4),
            Centered(gather),
            keras.layers.Dense(1, "tanh"),
        ]
    )


def b20(side):
    """A layer that subtracts the mean over its batch, gathered in tfdp.

    Test: test_whole_batch.py::test_a_layer_over_the_batch_equals_one_device
    """
    gather = tfdp.gather if side.is_tfdp else tf.identity
    data = batches(BATCH, BATCH + 1)
    expected = on_one_device(sgd, data, make=_centered)
    model = side.trained(sgd, data, make=lambda: _centered(gather))
    return deviation(model, expected)


def b20_as_it_is(side):
    """The same layer, as it is.

    Test: test_output_audit.py::test_the_layer_that_looks_at_the_batch_is_named
    """
    data = batches(BATCH, BATCH + 1)
    model = side.trained(sgd, data, make=_centered)
    if side.is_tfdp:
        return found(tfdp.audit(model, data))
    return deviation(model, on_one_device(sgd, data, make=_centered))


def b19(side):
    """An activity regularizer, and synchronized BatchNormalization.

    Test: test_turns.py::
    test_what_layers_add_beside_synchronized_statistics_is_exact
    """

    def make():
        keras.utils.set_random_seed(1)
        layers = [
            keras.Input((FEATURES,)),
            keras.layers.Dense(4, activity_regularizer="l2"),
            keras.layers.BatchNormalization(synchronized=True),
            keras.layers.Dense(1),
        ]
        if not tf.distribute.has_strategy():
            layers[2] = keras.layers.BatchNormalization()
        return keras.Sequential(layers)

    return side.deviation(sgd, make=make)
