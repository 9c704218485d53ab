"""A stage is what its layers are, and on which device."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from staged import GROUPS, arrays, devices

import tfdp

LAYERS = keras.layers


@pytest.fixture
def groups():
    return tfdp.MirroredStrategy(groups=GROUPS)


def on_replicas(strategy, function):
    """What each replica's call returns, of a graph."""
    results = tf.function(lambda: strategy.run(function))()
    return tf.nest.map_structure(
        lambda value: [
            each.numpy() for each in strategy.experimental_local_results(value)
        ],
        results,
    )


@pytest.mark.parametrize(
    ("layers", "index", "error", "message"),
    [
        ("dense", 0, TypeError, "a list of Keras layers"),
        (["dense"], 0, TypeError, "Received: layers=['dense']"),
        ([], 0, ValueError, "a layer at least"),
        ([LAYERS.Dense(1)], -1, ValueError, "`index` must be at least 0"),
        ([LAYERS.Dense(1)], "0", TypeError, "`index` must be an integer"),
        ([LAYERS.Dense(1, name="a")] * 2, 0, ValueError, "`a` more than once"),
        ([LAYERS.InputLayer((3,))], 0, ValueError, "Received: an InputLayer"),
        (
            [tfdp.Stage([LAYERS.Dense(1)], 0, name="inner")],
            0,
            ValueError,
            "holds no other. Received: `inner`",
        ),
    ],
)
def test_what_is_no_stage_is_refused(layers, index, error, message):
    with pytest.raises(error) as raised:
        tfdp.Stage(layers, index)
    assert message in str(raised.value)


def test_an_index_beyond_the_group_is_refused_when_it_is_built(groups):
    stage = tfdp.Stage([LAYERS.Dense(1)], 2)
    with (
        groups.scope(),
        pytest.raises(ValueError, match="index=2, and groups of 2"),
    ):
        stage.build((None, 3))
    # On one device all stages are there.
    stage.build((None, 3))


def test_a_stage_is_its_layers_without_groups():
    keras.utils.set_random_seed(1)
    layers = [LAYERS.Dense(3, "tanh"), LAYERS.Dense(2)]
    stage = tfdp.Stage(layers, 5)
    x, _ = arrays()
    expected = keras.Sequential(layers)(x)
    np.testing.assert_array_equal(stage(x), expected)
    assert stage.supports_jit
    assert stage.compute_output_shape((None, 8)) == (None, 2)
    assert [w.path for w in stage.weights] == [
        w.path for layer in layers for w in layer.weights
    ]


def test_configuration_and_weights_are_loaded(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((8,)),
            tfdp.Stage([LAYERS.Dense(3)], 1, name="one", trainable=False),
        ]
    )
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    (stage,) = loaded.layers
    assert (type(stage), stage.index, stage.name) == (tfdp.Stage, 1, "one")
    assert not stage.trainable_weights
    x, _ = arrays()
    np.testing.assert_array_equal(model(x), loaded(x))


class Parts(keras.layers.Layer):
    def call(self, inputs):
        return {"sum": inputs[0] + inputs[1], "number": tf.shape(inputs[0])}

    def compute_output_spec(self, inputs):
        return {
            "sum": keras.KerasTensor(inputs[0].shape, inputs[0].dtype),
            "number": keras.KerasTensor((2,), "int32"),
        }


class Whole(keras.layers.Layer):
    def call(self, inputs):
        return inputs["sum"] * tf.cast(inputs["number"][0], tf.float32)

    def compute_output_spec(self, inputs):
        return keras.KerasTensor(inputs["sum"].shape, inputs["sum"].dtype)


def test_structures_of_tensors_go_from_stage_to_stage(groups):
    x, _ = arrays(4)
    with groups.scope():
        first, second = tfdp.Stage([Parts()], 0), tfdp.Stage([Whole()], 1)

    def step():
        inputs = [tf.constant(x), tf.constant(2 * x)]
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = second(first(inputs))
        return outputs, tape.gradient(outputs, inputs)

    outputs, gradients = on_replicas(groups, step)
    for replica in (0, 1):
        np.testing.assert_allclose(outputs[replica], 12 * x, rtol=1e-6)
        for gradient in gradients:
            np.testing.assert_array_equal(gradient[replica], 4)


def test_gradients_may_be_asked_for_twice_and_of_gradients(groups):
    with groups.scope():
        cube = tfdp.Stage([LAYERS.Lambda(lambda x: x**3)], 1)
        cube.build((None, 1))

    def step():
        x = tf.constant([[2.0]])
        with tf.GradientTape(persistent=True) as outer:
            outer.watch(x)
            with tf.GradientTape(persistent=True) as tape:
                tape.watch(x)
                y = cube(x)
                double = 2 * y
            first, again = tape.gradient(y, x), tape.gradient(double, x)
        return y, first, again, outer.gradient(first, x)

    results = on_replicas(groups, step)
    for value, expected in zip(results, (8, 12, 24, 12), strict=True):
        np.testing.assert_allclose(np.ravel(value), expected, rtol=1e-6)


def test_sparse_gradients_stay_sparse_and_on_their_device(groups):
    with groups.scope():
        stage = tfdp.Stage([LAYERS.Embedding(100, 2)], 1)
        stage.build((None, 3))
    found = []

    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(stage(tf.constant([[1, 2, 2]])))
        gradient = tape.gradient(loss, stage.trainable_variables[0].value)
        found.append(gradient)
        return tf.convert_to_tensor(gradient)

    dense = on_replicas(groups, step)
    for each in dense:
        np.testing.assert_array_equal(each.sum(axis=1)[:4], [0, 2, 4, 0])
    assert all(isinstance(each, tf.IndexedSlices) for each in found)
    assert [each.values.device[-5:] for each in found] == ["CPU:1", "CPU:3"]


def test_frozen_layers_let_gradients_through(groups):
    with groups.scope():
        keras.utils.set_random_seed(1)
        frozen = tfdp.Stage([LAYERS.Dense(4)], 1, trainable=False)
        first = tfdp.Stage([LAYERS.Dense(3)], 0)
        model = keras.Sequential([keras.Input((8,)), first, frozen])
        plain = keras.Sequential([*first.layers, *frozen.layers])
    x, _ = arrays(4)

    def step():
        gradients = []
        for each in (model, plain):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(tf.square(each(x)))
            gradients.append(tape.gradient(loss, first.trainable_variables))
        return gradients

    own, expected = on_replicas(groups, step)
    assert len(own) == 2
    for each, other in zip(own, expected, strict=True):
        np.testing.assert_allclose(each[0], other[0], rtol=1e-5)


def test_layers_keep_the_precision_that_they_have(groups):
    keras.config.set_dtype_policy("mixed_bfloat16")
    with groups.scope():
        stage = tfdp.Stage(
            [LAYERS.Dense(3), LAYERS.Dense(2, dtype="float32")], 1
        )
        head = tfdp.Stage([LAYERS.Dense(2, dtype="float32")], 1)
        stage.build((None, 8))
        head.build((None, 8))
    x, _ = arrays(4)

    def step():
        with tf.GradientTape() as tape:
            outputs = stage(x)
        gradients = tape.gradient(outputs, stage.trainable_variables)
        return outputs, head(x), gradients

    outputs, exact, gradients = on_replicas(groups, step)
    kernel = head.layers[0].kernel.numpy()
    np.testing.assert_allclose(exact[0], x @ kernel, rtol=1e-5, atol=1e-6)
    assert outputs[0].dtype == np.float32
    assert {each[0].dtype for each in gradients} == {np.dtype("float32")}


def test_variables_may_be_tensors_that_stand_for_them(groups):
    with groups.scope():
        model = keras.Sequential(
            [keras.Input((8,)), tfdp.Stage([LAYERS.Dense(1)], 1)]
        )
    x, _ = arrays(4)

    def step():
        weights = [tf.ones_like(w) for w in model.trainable_variables]
        with tf.GradientTape() as tape:
            tape.watch(weights)
            outputs, _ = model.stateless_call(weights, [], x)
        return outputs, tape.gradient(outputs, weights)

    outputs, (kernel, bias) = on_replicas(groups, step)
    np.testing.assert_allclose(
        outputs[1], x.sum(1, keepdims=True) + 1, rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(kernel[1][:, 0], x.sum(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(bias[1], [4])


def test_statistics_move_once_a_step(groups):
    with groups.scope():
        layer = LAYERS.BatchNormalization(momentum=0.5)
        stage = tfdp.Stage([layer], 1)
        stage.build((None, 8))
    x, _ = arrays(16)

    def step():
        with tf.GradientTape() as tape:
            outputs = stage(x, training=True)
        return tape.gradient(outputs, stage.trainable_variables)

    on_replicas(groups, step)
    assert devices(groups, layer.moving_mean) == ["CPU:1", "CPU:3"]
    np.testing.assert_allclose(layer.moving_mean, x.mean(0) / 2, atol=1e-6)
    np.testing.assert_allclose(
        layer.moving_variance, (1 + x.var(0)) / 2, atol=1e-6
    )


def test_weights_that_were_trained_keep_their_values(groups):
    with groups.scope():
        inner = keras.Sequential([keras.Input((3,)), LAYERS.Dense(2)])
        inner.set_weights([np.full((3, 2), 7.0), np.full(2, 5.0)])
        stage = tfdp.Stage([inner], 1)
        stage.build((None, 3))
    assert devices(groups, inner.weights[0]) == ["CPU:1", "CPU:3"]
    for copy in groups.experimental_local_results(inner.weights[0].value):
        np.testing.assert_array_equal(copy, np.full((3, 2), 7.0))


def test_a_stage_is_not_compiled_for_one_device(groups):
    with groups.scope():
        stage = tfdp.Stage([LAYERS.Dense(1)], 0)
        stage.build((None, 3))
    assert not stage.supports_jit
