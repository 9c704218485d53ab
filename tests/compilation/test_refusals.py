"""What cannot be compiled is refused by name, with the way out."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfdp
from tfdp.compilation import compiled_step, naming_refused
from tfdp.upstream.keras import keras_steps

LAYERS = keras.layers


class InPython(LAYERS.Layer):
    def call(self, x):
        same = tf.numpy_function(lambda each: each, [x], x.dtype)
        return tf.ensure_shape(same, x.shape)


class CountedRange(LAYERS.Layer):
    """Has a shape that follows from values."""

    def call(self, x):
        many = tf.reduce_sum(tf.cast(x[:, 0] > 0, tf.int32))
        return x + tf.reduce_sum(tf.cast(tf.range(many), x.dtype))


class Lookup(LAYERS.Layer):
    supports_jit = True

    def __init__(self, **options):
        super().__init__(**options)
        self.table = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer([0, 1], [1.0, 2.0]), 0.0
        )

    def call(self, x):
        return x * self.table.lookup(tf.cast(x, tf.int32))


class OwnStep(keras.Sequential):
    def train_step(self, data):
        return super().train_step(data)


class OwnLoss(keras.Sequential):
    def compute_loss(self, *args, **kwargs):
        return super().compute_loss(*args, **kwargs)


class OwnMetrics(keras.Sequential):
    def compute_metrics(self, *args, **kwargs):
        return super().compute_metrics(*args, **kwargs)


def make(strategy, *layers, kind=keras.Sequential, loss="mse", **compile):
    keras.utils.set_random_seed(1)
    with strategy.scope():
        model = kind([keras.Input((4,)), *layers, LAYERS.Dense(1)])
        optimizer = tfdp.DistributedOptimizer(keras.optimizers.SGD(0.1))
        model.compile(optimizer, loss, **{"jit_compile": True, **compile})
    return model


def fit(model, x=None, y=None):
    x = np.ones((4, 4), "float32") if x is None else x
    y = np.ones((4, 1), "float32") if y is None else y
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(4)
    callbacks = [tfdp.callbacks.DataParallel()]
    return model.fit(data, verbose=0, callbacks=callbacks).history


@pytest.mark.parametrize(
    ("layer", "operation"), [(InPython, "PyFunc"), (Lookup, "LookupTableFind")]
)
def test_a_layer_that_xla_has_no_kernels_for_is_named(
    two_replicas, layer, operation
):
    with two_replicas.scope():
        odd = layer(name="odd_one")
    model = make(two_replicas, odd)
    message = f"the layer `odd_one`, which uses {operation}.* `jit_compile=Fal"
    with pytest.raises(TypeError, match=message):
        fit(model)
    assert "loss" in fit(make(two_replicas, layer(), jit_compile=False))


def test_a_layer_that_xla_refuses_in_the_step_is_named(two_replicas):
    model = make(two_replicas, LAYERS.Dense(4), CountedRange(name="counting"))
    with pytest.raises(TypeError, match="the layer `counting`, whose operatio"):
        fit(model)
    assert "loss" in fit(make(two_replicas, CountedRange(), jit_compile=False))


def test_errors_that_are_none_of_xlas_stay_what_they_are(two_replicas):
    model = make(two_replicas)

    def failing():
        raise tf.errors.InvalidArgumentError(None, None, "{{node here}} fails")

    with pytest.raises(tf.errors.InvalidArgumentError, match="here}} fails"):
        naming_refused(model, failing)()
    plain = make(two_replicas, jit_compile=False)
    assert naming_refused(plain, failing) is failing


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (OwnStep, "train_step"),
        (OwnLoss, "compute_loss"),
        (OwnMetrics, "compute_metrics"),
    ],
)
def test_a_step_of_ones_own_is_refused(two_replicas, kind, name):
    model = make(two_replicas, kind=kind)
    message = f"Received: jit_compile=True and {kind.__name__}, whose `{name}`"
    (found,) = tfdp.audit(model).of("error")
    assert message in found.message
    with pytest.raises(RuntimeError, match=message):
        fit(model)
    with pytest.raises(ValueError, match=message):
        model.fit(np.ones((4, 4)), np.ones((4, 1)), verbose=0)


def test_a_layer_that_says_later_that_it_cannot_be_compiled_is_named(
    two_replicas,
):
    layer = LAYERS.Dense(3, name="stubborn")
    model = make(two_replicas, layer)
    layer.supports_jit = False
    message = "the layer `stubborn`, with `supports_jit=False`"
    with pytest.raises(RuntimeError, match=message):
        fit(model)


def test_layers_that_keras_does_not_compile_are_warned_of(two_replicas):
    layer = LAYERS.Dense(3, name="stubborn")
    layer.supports_jit = False
    with pytest.warns(UserWarning, match="Model doesn't support `jit_compile"):
        model = make(two_replicas, layer)
    (found,) = tfdp.audit(model).of("warning")
    assert "jit_compile=True and the layer `stubborn`" in found.message
    plain = make(two_replicas, layer, jit_compile=False)
    assert tfdp.audit(plain) == []


@pytest.mark.parametrize("is_loss", [True, False])
def test_what_meets_other_replicas_is_refused(two_replicas, is_loss):
    if is_loss:
        loss = keras.losses.MeanSquaredError(
            reduction="mean_with_sample_weight", name="weighed"
        )
        model = make(two_replicas, loss=tfdp.DistributedLoss(loss))
        message = "the loss `weighed`, a DistributedLoss, which needs numbers"
    else:
        layer = LAYERS.BatchNormalization(synchronized=True, name="together")
        model = make(two_replicas, layer)
        message = "the layer `together`, which needs numbers of all replicas"
    with pytest.raises(TypeError, match=message):
        fit(model)


def test_a_generator_made_outside_of_the_scope_is_named(two_replicas):
    """Each replica would draw from the one on the first device."""
    model = make(two_replicas, LAYERS.Dropout(0.5, name="outside"))
    (found,) = tfdp.audit(model).of("error")
    assert "made outside of it, such as seed_generator" in found.message
    plain = make(two_replicas, LAYERS.Dropout(0.5), jit_compile=False)
    assert tfdp.audit(plain) == []


def test_strings_are_refused(two_replicas):
    with two_replicas.scope():
        words = keras.Input((1,), dtype="string", name="words")
        hashed = LAYERS.Lambda(
            lambda x: tf.cast(tf.strings.length(x), tf.float32),
            output_shape=(1,),
        )
        model = keras.Model(words, LAYERS.Dense(1)(hashed(words)))
        optimizer = tfdp.DistributedOptimizer(keras.optimizers.SGD(0.1))
        model.compile(optimizer, "mse", jit_compile=True)
    with pytest.raises(TypeError, match="jit_compile=True and strings in the"):
        fit(model, np.array([["a"], ["b"]]), np.ones((2, 1)))


@pytest.mark.parametrize("kind", ["RaggedTensor", "SparseTensor"])
def test_other_than_dense_tensors_are_refused(two_replicas, kind):
    ragged = tf.RaggedTensor.from_row_lengths(tf.ones([3]), [1, 2])
    data = ragged if kind == "RaggedTensor" else ragged.to_sparse()
    model = make(two_replicas)
    keras_steps.compile_inside(model)
    step = compiled_step(model, two_replicas.compile_times)
    with pytest.raises(TypeError, match=f"jit_compile=True and a {kind} in"):
        step((data, tf.ones([2, 1])))


def test_a_function_that_keras_compiles_as_a_whole_is_refused(two_replicas):
    class Again(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            with two_replicas.scope():
                optimizer = tfdp.DistributedOptimizer(keras.optimizers.SGD(1.0))
                self.model.compile(optimizer, "mse", jit_compile=True)
            self.model.make_train_function()

    model = make(two_replicas, jit_compile=False)
    with pytest.raises(RuntimeError, match="compiled again within a `fit`"):
        model.fit(
            np.ones((4, 4)),
            np.ones((4, 1)),
            epochs=2,
            verbose=0,
            callbacks=[tfdp.callbacks.DataParallel(), Again()],
        )
