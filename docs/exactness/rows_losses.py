"""Rows B: losses that are no mean over samples."""

import keras
import numpy as np
import tensorflow as tf
from sides import (
    BATCH,
    FEATURES,
    arrays,
    batches,
    deviation,
    found,
    network,
    on_one_device,
    sgd,
)

import tfdp


def _mean_of_all(y_true, y_pred):
    return keras.ops.mean(keras.ops.square(y_true - y_pred))


class Own(keras.Sequential):
    """A model that computes its loss itself."""

    def compute_loss(self, x=None, y=None, y_pred=None, *_, **__):
        """Returns the mean over the samples at hand."""
        return keras.ops.mean(keras.ops.square(y - y_pred))


def _first_update(model):
    return sum(
        np.abs(after - before).sum()
        for after, before in zip(
            model.get_weights(), network().get_weights(), strict=True
        )
    )


def _factor(side, loss, make=network):
    strategy = side.strategy()
    oracle = on_one_device(sgd, batches(64), make, _mean_of_all, epochs=1)
    actual = side.trained(
        sgd, batches(64), strategy, make=make, loss=loss, epochs=1
    )
    return float(_first_update(actual) / _first_update(oracle))


def b8(side):
    """A loss that returns one scalar, wrapped: times too large an update.

    Test: test_losses.py::test_a_loss_of_the_whole_batch_equals_one_device
    """
    return _factor(side, side.loss(_mean_of_all))


def b8_bare(side):
    """A loss that returns one scalar, as it is: times too large an update.

    Test: test_audit.py::
    test_a_loss_to_wrap_is_an_error_until_it_is_wrapped
    """
    return _factor(side, _mean_of_all)


def b8_own(side):
    """A `compute_loss` that returns one scalar: times too large an update.

    Test: test_audit.py::
    test_a_loss_not_divided_by_the_replicas_is_found_in_data
    """

    def make():
        return Own(network().layers)

    if not side.is_tfdp:
        return _factor(side, None, make)
    with side.strategy().scope():
        model = make()
        model.compile(side.optimizer(sgd))
    return found(tfdp.audit(model, batches()))


def _labelled(batch):
    x, _ = arrays()
    labels = np.random.default_rng(0).integers(-1, 3, len(x))
    labels[:20] = -1
    return tf.data.Dataset.from_tensor_slices((x, labels)).batch(batch)


def _classifier():
    keras.utils.set_random_seed(1)
    return keras.Sequential([keras.Input((FEATURES,)), keras.layers.Dense(3)])


_IGNORING = {"from_logits": True, "ignore_class": -1}


def b9(side):
    """A loss that ignores a class, wrapped.

    Test: test_parity.py::
    test_training_equals_one_device_with_one_large_batch
    """
    loss = keras.losses.SparseCategoricalCrossentropy(**_IGNORING)
    return side.deviation(sgd, data=_labelled, make=_classifier, loss=loss)


def b9_bare(side):
    """A loss that ignores a class, as it is.

    Test: test_audit.py::
    test_a_loss_to_wrap_is_an_error_until_it_is_wrapped
    """
    loss = keras.losses.SparseCategoricalCrossentropy(**_IGNORING)
    strategy = side.strategy()
    oracle = on_one_device(sgd, _labelled(BATCH), _classifier, loss)
    data = _labelled(BATCH)
    actual = side.trained(sgd, data, strategy, make=_classifier, loss=loss)
    return deviation(actual, oracle)


def b9_weights(side):
    """A loss that divides by the sum of sample weights, wrapped.

    Test: test_losses.py::test_a_loss_over_samples_equals_one_device
    """

    def weighted(batch):
        x, y = arrays()
        weights = np.linspace(0, 3, len(x)).astype("float32")
        return tf.data.Dataset.from_tensor_slices((x, y, weights)).batch(batch)

    loss = keras.losses.MeanSquaredError(reduction="mean_with_sample_weight")
    return side.deviation(sgd, data=weighted, loss=loss)


def b16(side):
    """A loss that is a sum, wrapped, accumulating; plain is eager.

    Test: test_losses.py::test_a_loss_over_samples_equals_one_device
    """
    return side.deviation(
        lambda **options: sgd(learning_rate=0.002, **options),
        steps=2,
        loss=keras.losses.MeanSquaredError(reduction="sum"),
        eager=True,
    )


def b16_bare(side):
    """A loss that is a sum, as it is.

    Test: callbacks/test_data_parallel.py::
    test_a_sum_over_the_batch_is_refused
    """
    strategy = side.strategy()
    loss = keras.losses.MeanSquaredError(reduction="sum")
    make = lambda: sgd(learning_rate=0.002)  # noqa: E731
    oracle = on_one_device(make, batches(), loss=loss)
    return deviation(side.trained(make, batches(), strategy, loss=loss), oracle)


class Penalty(keras.layers.Layer):
    """Adds the mean square of what it is given to the loss."""

    def call(self, inputs):
        """Adds it."""
        self.add_loss(keras.ops.mean(keras.ops.square(inputs)))
        return inputs


def b19_loss(side):
    """`add_loss` beside a loss that divides by sample weights, wrapped.

    Test: test_losses.py::test_what_layers_add_beside_a_loss_is_exact
    """

    def make():
        return keras.Sequential([*network().layers, Penalty()])

    def weighted(batch):
        x, y = arrays()
        weights = np.linspace(0, 3, len(x)).astype("float32")
        data = tf.data.Dataset.from_tensor_slices((x, y, weights))
        return data.batch(batch)

    loss = keras.losses.MeanSquaredError(reduction="mean_with_sample_weight")
    return side.deviation(sgd, data=weighted, make=make, loss=loss)


class _Endpoint(keras.layers.Layer):
    def call(self, y_pred, y):
        self.add_loss(keras.losses.MeanSquaredError()(y, y_pred))
        return y_pred


def _endpoint():
    keras.utils.set_random_seed(1)
    x, y = keras.Input((FEATURES,)), keras.Input((1,))
    return keras.Model([x, y], _Endpoint()(keras.layers.Dense(1)(x), y))


def b22(side):
    """A loss of Keras's inside of `add_loss`.

    Test: test_own_losses.py::
    test_a_loss_of_kerass_inside_of_a_layer_is_divided_once
    """
    x, y = arrays()
    data = tf.data.Dataset.from_tensor_slices(((x, y),)).batch(BATCH)
    oracle = on_one_device(sgd, data, _endpoint, None)
    return deviation(side.trained(sgd, data, make=_endpoint, loss=None), oracle)


def _spread(y_true, y_pred):
    return keras.ops.max(y_pred) - keras.ops.min(y_pred)


def b23(side):
    """A metric of the batch as a whole, wrapped: times that of one device.

    Test: test_metrics.py::test_metrics_of_the_batch_equal_one_device
    """
    wrapped = tfdp.DistributedMetric(_spread) if side.is_tfdp else _spread
    values = []
    for strategy, metric in (
        (side.strategy(), wrapped),
        (tf.distribute.get_strategy(), _spread),
    ):
        with strategy.scope():
            model = network()
            model.compile(loss="mse", metrics=[metric])
        values.append(model.evaluate(batches(), verbose=0)[1])
    return round(values[0] / values[1], 6)


def b23_as_it_is(side):
    """The same metric, as it is.

    Test: test_metric_audit.py::test_a_function_of_the_whole_batch_is_found
    """
    if not side.is_tfdp:
        return b23(side)
    with side.strategy().scope():
        model = network()
        model.compile(side.optimizer(sgd), "mse", metrics=[_spread])
    return found(tfdp.audit(model))
