"""Forward passes that depend on the batch are found, and where they do."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfdp


class OverBatch(keras.layers.Layer):
    """Weighs samples by what all of them say."""

    def __init__(self, gather=lambda x: x):
        super().__init__(name="over_batch")
        self.gather = gather

    def call(self, x):
        everyones = self.gather(x)
        return tf.tensordot(x, tf.matmul(everyones, everyones, True), axes=1)


class Own(keras.Model):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        self.dense = keras.layers.Dense(1)

    def call(self, x):
        return self.dense(self.layer(x))


def stacked(layer):
    return keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(3),
            layer,
            keras.layers.Dense(1),
        ]
    )


def audited(strategy, build, layer, loss="mse"):
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = build(layer())
        model.compile(
            tfdp.DistributedOptimizer(keras.optimizers.SGD(0.1)), loss
        )
    draw = np.random.default_rng(0)
    x = draw.normal(size=(8, 4)).astype("float32")
    return tfdp.audit(model, (x, x[:, :1]))


class AgainstAll(keras.layers.Layer):
    """Has an output for each two samples of the batch."""

    def __init__(self):
        super().__init__(name="against_all")

    def call(self, x):
        return tf.matmul(x, x, transpose_b=True)


@pytest.mark.parametrize("steps", [1, 2])
def test_a_layer_with_as_many_outputs_as_samples_is_named(two_replicas, steps):
    with two_replicas.scope():
        model = keras.Sequential(
            [keras.Input((4,)), keras.layers.Dense(3), AgainstAll()]
        )
        model.compile(
            tfdp.DistributedOptimizer(keras.optimizers.SGD(0.1), steps),
            lambda y, logits: keras.losses.sparse_categorical_crossentropy(
                keras.ops.arange(keras.ops.shape(logits)[0]), logits
            ),
        )
    x = np.ones((8, 4), "float32")
    (finding,) = tfdp.audit(model, (x, x[:, :1]))
    assert finding.severity == "error"
    assert "`against_all`" in finding.message


def test_the_layer_that_looks_at_the_batch_is_named(two_replicas):
    (finding,) = audited(two_replicas, stacked, OverBatch)
    assert finding.severity == "error"
    assert "`over_batch`" in finding.message
    assert "tfdp.gather(tensor)" in finding.message


def test_of_a_model_without_known_layers_its_name_is_told(two_replicas):
    (finding,) = audited(two_replicas, Own, OverBatch)
    assert "`own" in finding.message


def test_to_wrap_the_loss_does_not_silence_it(two_replicas):
    loss = tfdp.DistributedLoss("mse", over="batch")
    (finding,) = audited(two_replicas, stacked, OverBatch, loss)
    assert "tfdp.gather" in finding.message


@pytest.mark.parametrize(
    "layer",
    [
        lambda: OverBatch(tfdp.gather),
        keras.layers.BatchNormalization,
        lambda: keras.layers.Dropout(0.5),
        lambda: keras.layers.LayerNormalization(),
    ],
)
@pytest.mark.parametrize("build", [stacked, Own])
def test_what_is_exact_is_not_found(two_replicas, build, layer):
    found = audited(two_replicas, build, layer)
    assert not found.of("error")


def test_what_rounding_leaves_of_zero_is_no_dependence(two_replicas):
    keras.utils.set_random_seed(0)
    with two_replicas.scope():
        model = keras.Sequential(
            [
                keras.Input((8, 8, 1)),
                keras.layers.Conv2D(3, 3, activation="relu"),
                keras.layers.GroupNormalization(3),
                keras.layers.GlobalAveragePooling2D(),
                keras.layers.Dense(4),
            ]
        )
        sgd = keras.optimizers.SGD(0.1)
        model.compile(tfdp.DistributedOptimizer(sgd), "mse")
    x = np.random.default_rng(0).normal(size=(16, 8, 8, 1)).astype("float32")
    assert tfdp.audit(model, (x, np.ones((16, 4)))) == []
