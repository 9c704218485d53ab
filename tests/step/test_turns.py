"""What replicas leave in layers while they take turns."""

import keras
import numpy as np
import problem
import pytest
import tensorflow as tf
from grids import later

import tfdp


class Penalty(keras.layers.Layer):
    """Adds a loss, and keeps a tensor, which it uses after the next layer."""

    def call(self, x):
        self.add_loss(0.5 * keras.ops.mean(keras.ops.square(x)))
        return x


class Recall(keras.layers.Layer):
    """Keeps what it is given until the layers inside have run."""

    def __init__(self, inside):
        super().__init__()
        self.inside = inside
        self.kept = None
        self.history = []

    def call(self, x, training=None):
        self.kept = x
        self.history.append(x)
        y = self.inside(x, training=training)
        return y + 0.5 * self.kept + 0.1 * self.history.pop()


def normalization(plain):
    return keras.layers.BatchNormalization(synchronized=not plain)


def regularized(units):
    return keras.layers.Dense(
        units, activity_regularizer=keras.regularizers.L2(0.5)
    )


def recurrent(plain):
    return [
        regularized(4),
        keras.layers.Reshape((2, 2)),
        normalization(plain),
        keras.layers.LSTM(3, activity_regularizer="l2"),
    ]


BODIES = {
    "before": lambda plain: [regularized(4), normalization(plain)],
    "after": lambda plain: [normalization(plain), Penalty()],
    "around": lambda plain: [
        Penalty(),
        normalization(plain),
        regularized(4),
        normalization(plain),
        Penalty(),
    ],
    "inside": lambda plain: [Recall(normalization(plain)), Penalty()],
    "nested": lambda plain: [
        keras.Sequential([regularized(4), normalization(plain)]),
        Penalty(),
    ],
    "recurrent": recurrent,
}


def make(body, plain):
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [keras.Input((8,)), *BODIES[body](plain), keras.layers.Dense(1)]
    )


def trained(model, samples=45):
    data = problem.dataset(samples, 16)
    history = model.fit(data, epochs=2, validation_data=data, verbose=0)
    return history.history


@pytest.mark.sampled
@pytest.mark.parametrize("body", later(BODIES, ["inside", "nested"]))
def test_what_layers_add_beside_synchronized_statistics_is_exact(
    strategy, body
):
    expected = make(body, plain=True)
    expected.compile(keras.optimizers.SGD(0.1), "mse", metrics=["mae"])
    oracle = trained(expected)
    with strategy.scope():
        model = make(body, plain=False)
        optimizer = tfdp.DistributedOptimizer(keras.optimizers.SGD(0.1))
        model.compile(optimizer, "mse", metrics=["mae"])
    history = trained(model)
    actual, weights = model.get_weights(), expected.get_weights()
    assert problem.deviation(actual, weights) <= 1e-6
    for name, values in oracle.items():
        np.testing.assert_allclose(history[name], values, rtol=1e-5)


@pytest.mark.parametrize("is_function", [True, False])
def test_a_loop_of_ones_own_equals_one_device(strategy, is_function):
    x, y = problem.arrays(32)
    plain = make("around", plain=True)
    plain.compile(keras.optimizers.SGD(0.1), "mse")
    plain.fit(x, y, batch_size=16, shuffle=False, verbose=0)
    with strategy.scope():
        model = make("around", plain=False)
        optimizer = tfdp.DistributedOptimizer(keras.optimizers.SGD(0.1))
        optimizer.build(model.trainable_variables)

    def step(x, y):
        with tf.GradientTape() as tape:
            error = keras.ops.mean(
                keras.ops.square(model(x, training=True) - y)
            )
            loss = error + sum(model.losses)
            loss /= strategy.num_replicas_in_sync
            loss = optimizer.scale_loss(loss)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)

    step = tf.function(step) if is_function else step
    data = problem.dataset(32, 16)
    for batch in strategy.experimental_distribute_dataset(data):
        strategy.run(step, args=batch)
    assert problem.deviation(model.get_weights(), plain.get_weights()) <= 1e-6
