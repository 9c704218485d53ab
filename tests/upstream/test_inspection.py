"""What a model holds is found wherever it is."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfdp
from tfdp.upstream.keras import inspection


class Trained(keras.layers.Layer):
    """A layer that is trained by an optimizer of its own."""

    def __init__(self, optimizer):
        super().__init__()
        self.own = optimizer
        self.dense = keras.layers.Dense(1)

    def build(self, shape):
        self.dense.build(shape)

    def call(self, x):
        return self.dense(x)


class Holder(keras.Model):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def call(self, x):
        return self.layer(x)

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x, y, self(x, training=True))
        weights = self.layer.dense.trainable_variables
        self.layer.own.apply(tape.gradient(loss, weights), weights)
        return {"loss": loss}


def held(strategy, optimizer):
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = Holder(Trained(optimizer()))
        model.compile(loss="mse")
    return model


def test_an_optimizer_of_a_layer_is_found(two_replicas):
    model = held(two_replicas, keras.optimizers.SGD)
    assert inspection.optimizers(model) == [model.layer.own]
    (finding,) = tfdp.audit(model).of("warning")
    assert f"`{model.layer.own.name}`" in finding.message


@pytest.mark.parametrize("wrapped", [False, True])
def test_that_of_an_inner_model_is_idle_unless_it_is_for_replicas(
    two_replicas, wrapped
):
    with two_replicas.scope():
        inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        adam = keras.optimizers.Adam()
        inner.compile(tfdp.DistributedOptimizer(adam) if wrapped else adam)
        model = keras.Sequential([keras.Input((4,)), inner])
        model.compile(keras.optimizers.SGD(0.1), "mse")
    known = [model.optimizer, *([inner.optimizer] if wrapped else [])]
    assert inspection.optimizers(model) == known


def test_the_last_short_cycle_of_a_layers_optimizer_is_flushed(two_replicas):
    draw = np.random.default_rng(0)
    x = draw.normal(size=(24, 4)).astype("float32")
    y = x[:, :1]
    one = held(tf.distribute.get_strategy(), lambda: keras.optimizers.SGD(0.1))
    one.fit(x, y, batch_size=16, shuffle=False, verbose=0)
    model = held(
        two_replicas,
        lambda: tfdp.DistributedOptimizer(keras.optimizers.SGD(0.1), 2),
    )
    model.fit(
        x,
        y,
        batch_size=8,
        shuffle=False,
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel()],
    )
    assert int(model.layer.own.iterations.numpy()) == 2
    for actual, expected in zip(
        model.get_weights(), one.get_weights(), strict=True
    ):
        np.testing.assert_allclose(actual, expected, atol=1e-6)


def test_at_every_step_optimizers_are_looked_for_after_a_compile_only(
    monkeypatch,
):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    looked = []
    optimizers = inspection.optimizers

    def counted(of):
        looked.append(of)
        return optimizers(of)

    monkeypatch.setattr(inspection, "optimizers", counted)
    known = inspection.Optimizers(model)
    model.make_train_function()
    for _ in range(3):
        assert known.now() == [model.optimizer]
    assert len(looked) == 2
    model.compile("adam", "mse")
    assert known.now() == [model.optimizer]
    assert isinstance(model.optimizer, keras.optimizers.Adam)
