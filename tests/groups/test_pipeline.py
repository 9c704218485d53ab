"""Micro-batches through stages come to what the batch comes to."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from staged import GROUPS, arrays, dense, plain, staged

import tfdp

LAYERS = keras.layers


def stage(*layers, index=0):
    return tfdp.Stage(list(layers) or [LAYERS.Dense(1)], index)


def pipeline(micro_batches, *layers):
    return tfdp.Pipeline(
        [tfdp.Stage([each], i) for i, each in enumerate(layers)], micro_batches
    )


SHARED = LAYERS.Dense(3, name="shared")


@pytest.mark.parametrize(
    ("stages", "micro_batches", "error", "message"),
    [
        ("stages", 1, TypeError, "a list of tfdp.Stage"),
        ([LAYERS.Dense(1)], 1, TypeError, "Wrap the layers of each device"),
        ([], 1, ValueError, "a stage at least"),
        ([stage()], 0, ValueError, "`micro_batches` must be at least 1"),
        ([stage()], 1.5, TypeError, "`micro_batches` must be an integer"),
        (
            [stage(SHARED), stage(SHARED, index=1)],
            1,
            ValueError,
            "Received: `shared` in stages",
        ),
        (
            [stage(LAYERS.LSTM(2, stateful=True, name="keeps"))],
            2,
            ValueError,
            "Received: `keeps` with stateful=True",
        ),
    ],
)
def test_what_is_no_pipeline_is_refused(stages, micro_batches, error, message):
    with pytest.raises(error) as raised:
        tfdp.Pipeline(stages, micro_batches)
    assert message in str(raised.value)


def test_a_pipeline_is_its_stages_on_one_device():
    model, expected = staged(4), plain()
    for rows in (97, 5, 3, 1, 0):
        x, y = arrays(rows)
        np.testing.assert_allclose(model(x), expected(x), atol=1e-6)
        if rows:
            for each in (model, expected):
                each.compile("sgd", "mse")
            own, other = (
                each.train_on_batch(x, y) for each in (model, expected)
            )
            np.testing.assert_allclose(own, other, rtol=1e-5)
            for own, other in zip(
                model.get_weights(), expected.get_weights(), strict=True
            ):
                np.testing.assert_allclose(own, other, atol=1e-6)


def test_configuration_is_loaded():
    model = staged(4)
    copy = keras.Sequential.from_config(model.get_config())
    (own,) = copy.layers
    assert (type(own), own.micro_batches) == (tfdp.Pipeline, 4)
    assert [each.index for each in own.stages] == [0, 1]
    assert own.compute_output_shape((None, 8)) == (None, 1)
    assert [w.shape for w in copy.weights] == [w.shape for w in model.weights]


def test_each_micro_batch_has_statistics_of_its_own():
    x = arrays(10)[0].astype("float32")
    layer = LAYERS.BatchNormalization(momentum=0.9)
    own = pipeline(3, layer)
    outputs = own(x, training=True)
    # In parts of 4, 3 and 3 samples, one after another.
    reference = LAYERS.BatchNormalization(momentum=0.9)
    parts = [x[:4], x[4:7], x[7:]]
    expected = np.concatenate([reference(p, training=True) for p in parts])
    np.testing.assert_allclose(outputs, expected, atol=1e-6)
    for one, other in zip(layer.weights, reference.weights, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_micro_batches_without_samples_move_no_statistics():
    x, _ = arrays(2)
    layer = LAYERS.BatchNormalization(momentum=0.9)
    outputs = pipeline(4, layer)(x, training=True)
    reference = LAYERS.BatchNormalization(momentum=0.9)
    expected = [reference(x[i : i + 1], training=True) for i in (0, 1)]
    np.testing.assert_allclose(outputs, np.concatenate(expected), atol=1e-6)
    for one, other in zip(layer.weights, reference.weights, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


class Counts(keras.layers.Layer):
    """Keeps a number that only some calls change."""

    def build(self, input_shape):
        self.calls = self.add_weight(
            shape=(), initializer="zeros", trainable=False
        )

    def call(self, inputs):
        self.calls.assign_add(1.0)
        return inputs

    def compute_output_shape(self, input_shape):
        return input_shape


@pytest.mark.parametrize(("rows", "calls"), [(8, 4), (2, 2), (1, 1), (0, 0)])
def test_state_changes_once_for_each_micro_batch_with_samples(rows, calls):
    layer = Counts()
    own = pipeline(4, layer)
    own(tf.zeros((rows, 3)))
    assert float(layer.calls) == calls


def test_every_micro_batch_draws_random_numbers_of_its_own():
    layer = LAYERS.Dropout(0.5, seed=1)
    outputs = pipeline(2, layer)(tf.ones((2, 64)), training=True).numpy()
    assert np.any(outputs[0] != outputs[1])
    reference = LAYERS.Dropout(0.5, seed=1)
    for row in outputs:
        np.testing.assert_array_equal(
            [row], reference(tf.ones((1, 64)), training=True)
        )
    np.testing.assert_array_equal(pipeline(2, layer)(tf.ones((2, 3))), 1)


class Adds(keras.layers.Layer):
    def call(self, inputs):
        self.add_loss(tf.reduce_mean(tf.square(inputs)))
        self.add_loss(tf.reduce_mean(inputs))
        return inputs

    def compute_output_shape(self, input_shape):
        return input_shape


@pytest.mark.parametrize("rows", [1, 3, 10])
def test_what_layers_add_is_a_mean_over_samples(rows):
    x, _ = arrays(rows)
    own = pipeline(4, Adds(), Adds())
    own(x)
    expected = 2 * (np.mean(x**2) + np.mean(x))
    np.testing.assert_allclose(sum(own.losses), expected, rtol=1e-5)


def test_layers_add_once_under_groups():
    groups = tfdp.MirroredStrategy(groups=GROUPS)
    x, _ = arrays(10)
    with groups.scope():
        own = pipeline(4, Adds(), LAYERS.ActivityRegularization(l2=0.5))
        own.build(x.shape)

    def step():
        inputs = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            own(inputs)
            loss = tf.add_n(own.losses)
        return loss, tape.gradient(loss, inputs)

    loss, gradient = tf.function(lambda: groups.run(step))()
    expected = np.mean(x**2) + np.mean(x) + 0.5 * np.sum(x**2) / 10
    slope = 2 * x / x.size + 1 / x.size + x / 10
    for value in groups.experimental_local_results(loss):
        np.testing.assert_allclose(value, expected, rtol=1e-5)
    for value in groups.experimental_local_results(gradient):
        np.testing.assert_allclose(value, slope, atol=1e-6)


class Halves(keras.layers.Layer):
    def call(self, inputs):
        first, second = inputs["a"], inputs["b"]
        return [first + second, {"first": first}]

    def compute_output_spec(self, inputs):
        like = keras.KerasTensor(inputs["a"].shape, inputs["a"].dtype)
        return [like, {"first": like}]


def test_structures_are_divided_and_put_together():
    x, _ = arrays(5)
    inputs = {name: keras.Input((8,), name=name) for name in "ab"}
    model = keras.Model(inputs, pipeline(3, Halves())(inputs))
    total, rest = model({"a": x, "b": 2 * x})
    np.testing.assert_allclose(total, 3 * x, rtol=1e-6)
    np.testing.assert_array_equal(rest["first"], x)
    assert total.shape == (5, 8)


def test_masks_are_divided_and_put_together():
    tokens = np.array([[1, 2, 0], [3, 0, 0], [1, 1, 1]])
    embedding = LAYERS.Embedding(5, 2, mask_zero=True)
    for own in (
        pipeline(2, embedding, LAYERS.Dense(2)),
        tfdp.Pipeline([stage(LAYERS.Masking(0)), stage(LAYERS.Dense(2))], 2),
    ):
        is_embedding = own.stages[0].layers == [embedding]
        inputs = tokens if is_embedding else tokens[..., None] * np.ones(2)
        outputs = own(tf.constant(inputs, tf.float32))
        np.testing.assert_array_equal(outputs._keras_mask, tokens > 0)
    ends = pipeline(2, embedding, LAYERS.GlobalAveragePooling1D())
    assert getattr(ends(tokens), "_keras_mask", None) is None
    symbolic = ends(keras.Input((3,), dtype="int32"))
    assert getattr(symbolic, "_keras_mask", None) is None


def test_what_has_no_rows_is_refused():
    own = pipeline(2, LAYERS.Lambda(lambda x: x[0]))
    with pytest.raises(ValueError, match="rows of dense tensors"):
        own.call([tf.ones((2, 3)), tf.constant(1.0)])
    with pytest.raises(ValueError, match="Use micro_batches=1"):
        own.call(tf.sparse.from_dense([[1.0, 0.0]]))


def test_outputs_without_a_row_for_each_sample_are_refused():
    own = pipeline(2, LAYERS.Lambda(lambda x: tf.reshape(x, (-1, 1))))
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="a row for each sample"
    ):
        own(tf.ones((4, 3)))


def test_a_model_of_stages_trains_without_any_strategy():
    x, y = arrays()
    model, expected = staged(2, dense), plain(dense)
    for each in (model, expected):
        each.compile(keras.optimizers.Adam(0.01), "mse")
        each.fit(x, y, batch_size=32, shuffle=False, verbose=0)
    for own, other in zip(
        model.get_weights(), expected.get_weights(), strict=True
    ):
        np.testing.assert_allclose(own, other, atol=1e-6)
