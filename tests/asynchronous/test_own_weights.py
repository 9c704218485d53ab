"""Weights that callbacks and steps set, where the weights are a server's."""

import asynchronous_fit
import keras
import numpy as np
import pytest
import tensorflow as tf

import tfdp

CPU = ["CPU:0"]
# The server sums in other orders than a graph of Keras's step.
ROUNDING = 2e-6


@pytest.fixture(scope="module")
def strategy():
    return tfdp.AsynchronousStrategy(0, devices=CPU)


@pytest.fixture
def another():
    # A fit that was refused leaves the server in the middle of it.
    return tfdp.AsynchronousStrategy(0, devices=CPU)


class Halve(keras.callbacks.Callback):
    """Halves the weights, in one of the methods that Keras calls."""

    def __init__(self, hook, at=None):
        super().__init__()
        self.at = at
        setattr(self, hook, self.halve)

    def halve(self, index=None, logs=None):
        if isinstance(index, dict) or self.at in (None, index):
            weights = self.model.get_weights()
            self.model.set_weights([w * 0.5 for w in weights])


class Stepping(keras.Sequential):
    """Updates in a step of its own."""

    updates = 1
    clips = False

    def train_step(self, data):
        x, y = data
        for _ in range(self.updates):
            with tf.GradientTape() as tape:
                loss = self.compute_loss(x, y, self(x, training=True))
            gradients = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply(gradients, self.trainable_variables)
        if self.clips:
            for variable in self.trainable_variables:
                variable.assign(keras.ops.clip(variable, -0.1, 0.1))
        return {"loss": loss}


def make_model():
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((5,)),
            keras.layers.Dense(7, "tanh"),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(1),
        ]
    )


def stepping(**settings):
    model = Stepping([keras.Input((5,)), keras.layers.Dense(1)])
    for name, value in settings.items():
        setattr(model, name, value)
    return model


def fit(model, callbacks=(), edges=True, **kwargs):
    samples = asynchronous_fit.samples()
    return model.fit(
        *samples,
        batch_size=asynchronous_fit.BATCH,
        shuffle=False,
        verbose=0,
        callbacks=[
            *([tfdp.callbacks.DataParallel()] if edges else []),
            *callbacks,
        ],
        **{"epochs": 3, "validation_data": samples, **kwargs},
    )


def compiled(strategy, optimizer=None, model=make_model, **kwargs):
    with strategy.scope():
        made = model()
        made.compile(
            tfdp.DistributedOptimizer(
                optimizer or keras.optimizers.SGD(0.05, 0.9), **kwargs
            ),
            "mse",
        )
    return made


def plain(callbacks, optimizer=None, **kwargs):
    model = make_model()
    model.compile(optimizer or keras.optimizers.SGD(0.05, 0.9), "mse")
    fit(model, callbacks, edges=False, **kwargs)
    return model


def distance(one, other):
    pairs = zip(one.get_weights(), other.get_weights(), strict=True)
    return max(np.abs(a - b).max() for a, b in pairs)


@pytest.mark.parametrize(
    ("hook", "at"),
    [
        ("on_train_begin", None),
        ("on_train_end", None),
        ("on_epoch_begin", None),
        ("on_epoch_begin", 0),
        ("on_epoch_end", None),
        # Of the last epoch.
        ("on_epoch_end", 2),
        ("on_test_begin", None),
        ("on_test_end", None),
    ],
)
def test_what_is_set_at_an_edge_counts(strategy, hook, at):
    model = compiled(strategy)
    fit(model, [Halve(hook, at)])
    expected = plain([Halve(hook, at)])
    assert distance(model, expected) < ROUNDING
    assert distance(model, plain([])) > 1e-2
    if hook != "on_train_end":
        state = strategy.exchange.save()
        served = [v for n, v in state.items() if n.startswith("weights/")]
        for one, other in zip(served, model.trainable_weights, strict=True):
            np.testing.assert_array_equal(one, other.numpy())
