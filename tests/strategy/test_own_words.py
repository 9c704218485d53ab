"""What tfdp has to say in the middle of a graph comes first, and alone."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfdp
from tfdp.upstream.tensorflow import tf_functions

X, Y = np.ones((8, 2), "float32"), np.ones((8, 1), "float32")


def compiled(strategy, **options):
    with strategy.scope():
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile(
            **{
                "optimizer": tfdp.DistributedOptimizer(
                    keras.optimizers.SGD(0.1)
                ),
                "loss": "mse",
                **options,
            }
        )
    return model


def test_an_error_of_ours_is_one_sentence(two_replicas):
    loss = tfdp.DistributedLoss(
        lambda y, p: tf.reduce_mean(tf.square(y - p)), over="samples"
    )
    model = compiled(two_replicas, loss=loss)
    rule = "^A loss that is one scalar cannot be weighted by samples. Received"
    with pytest.raises(ValueError, match=rule) as caught:
        model.fit(X, Y, sample_weight=np.ones(8), verbose=0)
    assert "user code" not in str(caught.value)
    assert "\n" not in str(caught.value)


SCALAR = tfdp.DistributedLoss(
    lambda y, p: tf.reduce_mean(tf.square(y - p)), over="samples"
)


class Own(keras.Model):
    """A model whose `call` AutoGraph converts."""

    def __init__(self, fail):
        super().__init__()
        self.dense = keras.layers.Dense(1)
        self.fail = fail

    def call(self, inputs, training=False):
        outputs = self.dense(inputs)
        if training:
            self.fail(outputs)
        return outputs


def weighed(outputs):
    SCALAR(outputs, outputs, tf.ones((4,)))


def answered_with_another(outputs):
    try:
        weighed(outputs)
    except ValueError:
        raise TypeError("what the user says") from None


def failure_of(strategy, fail):
    with strategy.scope():
        model = Own(fail)
        model.compile("sgd", "mse")
        model(X)
    with pytest.raises((ValueError, TypeError)) as caught:
        model.fit(X, Y, verbose=0)
    return str(caught.value)


def test_an_error_of_ours_inside_of_a_layer_is_one_sentence(two_replicas):
    message = failure_of(two_replicas, weighed)
    assert message.startswith("A loss that is one scalar cannot be weighted")
    assert "\n" not in message


def test_an_error_of_the_user_keeps_its_place(two_replicas):
    message = failure_of(two_replicas, answered_with_another)
    assert "what the user says" in message
    assert "Own.call()" in message


def test_an_error_that_another_package_raised_is_left_alone():
    with pytest.raises(ValueError, match="invalid literal") as caught:
        int("x")
    assert tf_functions.own_words(caught.value, "tfdp") is None
