"""Which private name of Keras moved, of those that `keras_losses` uses."""

import keras
import numpy as np
import tensorflow as tf
from contracts import contract

from tfdp.upstream.keras import keras_losses


@contract(
    "backend.get_keras_mask",
    serves="losses of masked outputs are averaged by samples",
)
def test_mask_is_attached_to_a_tensor():
    classes = np.array([[1, 2, 0], [3, 0, 0]])
    outputs = keras.layers.Embedding(4, 2, mask_zero=True)(classes)
    np.testing.assert_array_equal(keras_losses.mask_of(outputs), classes != 0)
    assert keras_losses.mask_of(tf.ones((2, 3))) is None
    symbolic = keras.layers.Embedding(4, 2, mask_zero=True)(keras.Input((3,)))
    assert keras_losses.mask_of(symbolic) is not None


@contract(
    "losses.loss.reduce_weighted_values",
    "losses.loss.apply_mask",
    "losses.loss.squeeze_or_expand_to_same_rank",
    serves="tfdp.DistributedLoss weighs samples or masks unlike Keras",
)
def test_losses_are_summed_as_keras_does():
    class Masked(keras.losses.Loss):
        def call(self, y_true, y_pred):
            return y_pred

    masked = Masked(reduction="sum")
    values = tf.constant([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    weights = tf.constant([[1.0], [2.0]])
    mask = tf.constant([[True, True, False], [True, False, False]])
    total, together = keras_losses.weighted_sum(values, weights, mask)
    assert float(total) == 11.0
    np.testing.assert_array_equal(together, [[1, 1, 0], [2, 0, 0]])
    total, together = keras_losses.weighted_sum(
        values[:, :1], weights[:, 0], None
    )
    assert float(total) == float(masked(0.0, values[:, :1], weights))
    np.testing.assert_array_equal(together, weights)
    total, together = keras_losses.weighted_sum(values, None, None)
    assert float(total) == 21.0
    assert together is None


@contract(
    "LossFunctionWrapper",
    serves="functions given to tfdp.DistributedLoss are no losses",
)
def test_function_becomes_the_loss_that_compile_makes_of_it():
    def off(y_true, y_pred):
        return tf.reduce_mean(tf.abs(y_true - y_pred), axis=-1)

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    model.compile("sgd", off)
    y, y_pred = tf.ones((4, 3)), tf.reshape(tf.range(12.0), (4, 3))
    loss = keras_losses.as_loss(off)
    assert isinstance(loss, keras.losses.Loss)
    assert loss.name == "off"
    expected = model.compute_loss(None, y, y_pred)
    assert float(loss(y, y_pred)) == float(expected)
    assert isinstance(
        keras_losses.as_loss(lambda a, b: a - b), keras.losses.Loss
    )


class Asked(tf.distribute.OneDeviceStrategy):
    """Notes who asks for the number of replicas."""

    def __init__(self):
        super().__init__("CPU:0")
        self.dividers = []

    @property
    def num_replicas_in_sync(self):
        self.dividers.append(keras_losses.divider())
        return 2


@contract(
    "scale_loss_for_distribution",
    "unscale_loss_for_distribution",
    serves="a train_step of the user's own logs its loss divided by the "
    "replicas",
)
def test_keras_is_seen_to_divide_and_multiply_losses():
    asked = Asked()
    with asked.scope():
        keras.losses.MeanSquaredError()(tf.ones((2, 1)), tf.zeros((2, 1)))
        assert set(asked.dividers) == {"keras"}
        asked.dividers.clear()
        keras_losses._unscale_loss.find()(tf.constant(1.0))
    assert set(asked.dividers) == {"keras"}


@contract(
    "tf.nn.compute_average_loss.__module__",
    "tf.distribute.Strategy.__module__",
    serves="a loss divided by hand is logged as it is",
)
def test_who_else_may_divide_is_told_from_who_does_not():
    asked = Asked()

    def step():
        assert tf.distribute.get_strategy().num_replicas_in_sync == 2
        assert tf.distribute.get_replica_context().num_replicas_in_sync == 2
        return tf.nn.compute_average_loss(tf.ones((2,)))

    asked.run(step)
    assert asked.dividers.count("own") == 3
    assert set(asked.dividers) <= {"own", None}
