"""How compiled replicas draw, mask, and how often they are compiled."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfdp

LAYERS = keras.layers


def make(strategy, layers, shape=(8,), loss="mse", ways=None, **compile):
    keras.utils.set_random_seed(1)
    with strategy.scope():
        model = keras.Sequential([keras.Input(shape), *layers()])
        optimizer = tfdp.DistributedOptimizer(
            keras.optimizers.SGD(0.1), **(ways or {})
        )
        model.compile(optimizer, loss, **{"jit_compile": True, **compile})
    return model


def data(num_samples, batch, shape=(8,)):
    random = np.random.default_rng(0)
    x = random.normal(size=(num_samples, *shape)).astype("float32")
    y = random.normal(size=(num_samples, 1)).astype("float32")
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(batch)


def fit(model, dataset, **options):
    callbacks = [tfdp.callbacks.DataParallel()]
    options = {"verbose": 0, "callbacks": callbacks, **options}
    return model.fit(dataset, **options).history


def linear():
    return [LAYERS.Dense(1)]


def drawing():
    ones = keras.initializers.Ones()
    return [
        LAYERS.Dropout(0.5, seed=3),
        LAYERS.Dense(1, use_bias=False, kernel_initializer=ones),
    ]


def dropped(strategy):
    """Returns which inputs each of two replicas of one sample has dropped."""
    model = make(
        strategy,
        drawing,
        shape=(64,),
        loss=lambda y, y_pred: y_pred,
    )
    ones = tf.data.Dataset.from_tensors((tf.ones((2, 64)), tf.ones((2, 1))))
    fit(model, ones)
    # The gradient of a weight is the mean over samples of 0 or 2.
    return np.round((1 - model.get_weights()[0][:, 0]) / 0.1, 3)


def test_replicas_drop_apart_and_the_same_again(two_replicas):
    first = dropped(two_replicas)
    assert set(first.tolist()) == {0.0, 1.0, 2.0}
    np.testing.assert_array_equal(dropped(two_replicas), first)


def test_one_replica_drops_what_one_device_does_that_compiles():
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((8,)), *drawing()])
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=True)
    model.fit(data(16, 8), verbose=0)
    one = make(tfdp.MirroredStrategy(["CPU:0"]), drawing)
    fit(one, data(16, 8))
    np.testing.assert_allclose(
        one.get_weights()[0], model.get_weights()[0], atol=1e-6
    )


@pytest.mark.long
def test_samples_drop_the_same_for_any_number_of_replicas():
    weights = []
    for replicas in (1, 2, 4):
        strategy = tfdp.MirroredStrategy(
            [f"CPU:{i}" for i in range(replicas)], random_by="sample"
        )
        model = make(strategy, lambda: [LAYERS.Dense(8), *drawing()])
        fit(model, data(27, 8), epochs=2)  # The last of 3, of 2, and of none.
        weights.append(model.get_weights())
    for others in weights[1:]:
        for own, other in zip(weights[0], others, strict=True):
            np.testing.assert_allclose(other, own, atol=1e-6)


def test_metrics_leave_out_what_is_masked(two_replicas):
    def logged(**compile):
        model = make(
            two_replicas,
            lambda: [
                LAYERS.Embedding(4, 2, mask_zero=True),
                LAYERS.Dense(1),
            ],
            shape=(3,),
            metrics=["mae"],
            **compile,
        )
        x = np.array([[1, 0, 0], [2, 2, 0], [3, 1, 2], [1, 1, 0]])
        y = np.arange(12.0).reshape((4, 3, 1)).astype("float32")
        dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(4)
        return model.fit(dataset, verbose=0).history

    expected = logged(jit_compile=False)
    for key, values in logged().items():
        np.testing.assert_allclose(values, expected[key], rtol=1e-5)


class Counting(LAYERS.Layer):
    traces = 0

    def call(self, x, training=None):
        Counting.traces += bool(training)
        return x


def test_batches_of_all_sizes_take_one_trace_per_replica(two_replicas):
    model = make(two_replicas, lambda: [Counting(), *linear()])
    before = Counting.traces
    fit(model, data(37, 8), epochs=3)  # Of 8, and the last of 5.
    # In building, for it and for its gradient.
    assert Counting.traces - before <= 2 + 2
    # Of 4 on both, then of 3 and of 2.
    assert two_replicas.compile_times.count == 4


def test_many_lengths_take_one_trace_and_are_told_of(two_replicas, capsys):
    def batches():
        for length in range(2, 12):
            yield np.ones((4, length)), np.ones((4, 1))

    shapes = tf.TensorSpec((None, None)), tf.TensorSpec((None, 1))
    dataset = tf.data.Dataset.from_generator(
        batches, output_signature=shapes
    ).apply(tf.data.experimental.assert_cardinality(10))
    model = make(
        two_replicas,
        lambda: [
            Counting(),
            LAYERS.Embedding(2, 3),
            LAYERS.GlobalAveragePooling1D(),
            *linear(),
        ],
        shape=(None,),
    )
    before = Counting.traces
    fit(model, dataset)
    assert Counting.traces - before <= 2 + 2
    assert two_replicas.compile_times.count == 2 * 10
    assert capsys.readouterr().out.count("and has met 9 of them, in") == 1


WAYS = {
    "several steps": ({}, {"steps_per_execution": 2}),
    "local": ({"synchronization": tfdp.LocalSGD(sync_every=2)}, {}),
    "delayed": ({"synchronization": tfdp.Delayed()}, {}),
    "sharded": ({"synchronization": tfdp.ShardedState()}, {}),
    "compressed": ({"compression": "bfloat16"}, {}),
}


@pytest.mark.sampled
@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_synchronise_does_what_it_does_without(two_replicas, way):
    ways, compile = WAYS[way]
    weights = []
    for jit_compile in (False, True):
        model = make(
            two_replicas,
            lambda: [LAYERS.Dense(8, "tanh"), *linear()],
            ways=ways,
            jit_compile=jit_compile,
            **compile,
        )
        fit(model, data(27, 8), epochs=2)
        weights.append(model.get_weights())
    tolerance = 1e-2 if way == "compressed" else 1e-6
    for own, other in zip(*weights, strict=True):
        np.testing.assert_allclose(own, other, atol=tolerance)


def test_what_was_compiled_is_told_and_in_no_rate(two_replicas, capsys):
    monitor = tfdp.callbacks.ThroughputMonitor(warmup_updates=0)
    model = make(two_replicas, linear)
    callbacks = [tfdp.callbacks.DataParallel(), monitor]
    fit(model, data(36, 8), epochs=3, callbacks=callbacks)
    # Steps with a first and a last batch have compiled, in the first epoch.
    assert monitor.rates.updates == 3 * 5 - 2
    shown = " ".join(capsys.readouterr().out.split())
    assert "compiled by XLA 4 times, for each replica here and shape" in shown
    assert (
        max(end - begin for begin, end in two_replicas.compile_times.spans) > 0
    )
    fit(model, data(36, 8), callbacks=callbacks)
    assert "compiled" not in capsys.readouterr().out


def test_what_is_not_compiled_is_not_told_of(two_replicas, capsys):
    monitor = tfdp.callbacks.ThroughputMonitor(warmup_updates=0)
    model = make(two_replicas, linear, jit_compile="auto")
    callbacks = [tfdp.callbacks.DataParallel(), monitor]
    fit(model, data(16, 8), callbacks=callbacks)
    assert two_replicas.compile_times.count == 0
    assert "compiled" not in capsys.readouterr().out


def test_a_compiled_model_is_evaluated_predicts_and_takes_single_batches(
    two_replicas,
):
    dataset = data(19, 8)
    compiled = make(two_replicas, linear)
    plain = make(two_replicas, linear, jit_compile=False)
    for model in (compiled, plain):
        model.predict(dataset, verbose=0)
    (x, y), *_ = dataset
    for _ in range(2):
        np.testing.assert_allclose(
            compiled.train_on_batch(x, y), plain.train_on_batch(x, y), rtol=1e-5
        )
        np.testing.assert_allclose(
            compiled.evaluate(dataset, verbose=0),
            plain.evaluate(dataset, verbose=0),
            rtol=1e-5,
        )
        np.testing.assert_allclose(
            compiled.predict(dataset, verbose=0),
            plain.predict(dataset, verbose=0),
            atol=1e-5,
        )
    assert two_replicas.compile_times.count > 0


def test_a_model_without_trainable_weights_is_left_to_keras(two_replicas):
    frozen = LAYERS.Dense(1, trainable=False)
    model = make(two_replicas, lambda: [frozen])
    with pytest.warns(UserWarning, match="not have any trainable weights"):
        model.fit(data(8, 8), verbose=0)
    assert two_replicas.compile_times.count == 0


def test_a_model_is_saved_as_one_to_compile(two_replicas, tmp_path):
    model = make(two_replicas, linear)
    fit(model, data(8, 8))
    assert repr(model.jit_compile) == "inside of each replica"
    assert model.get_compile_config()["jit_compile"] is True
    model.save(tmp_path / "model.keras")
    with two_replicas.scope():
        loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.jit_compile is True
