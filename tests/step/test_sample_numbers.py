"""Random numbers by sample: as random as others, and refused elsewhere."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfdp
from tfdp.step.sample_numbers import SampleSeedGenerator

DRAWS = {
    "uniform": lambda shape, seed: keras.random.uniform(shape, seed=seed),
    "wide": lambda shape, seed: keras.random.uniform(
        shape, -2.0, 3.0, dtype="float64", seed=seed
    ),
    "half": lambda shape, seed: keras.random.uniform(
        shape, dtype="float16", seed=seed
    ),
    "normal": lambda shape, seed: keras.random.normal(
        shape, 1.0, 2.0, seed=seed
    ),
    "half-normal": lambda shape, seed: keras.random.normal(
        shape, dtype="bfloat16", seed=seed
    ),
    "truncated": lambda shape, seed: keras.random.truncated_normal(
        shape, 1.0, 2.0, seed=seed
    ),
    "integers": lambda shape, seed: keras.random.randint(
        shape, 3, 9, seed=seed
    ),
    "long": lambda shape, seed: keras.random.randint(
        shape, -4, 2, dtype="int64", seed=seed
    ),
}
# Mean and deviation of each.
MOMENTS = {
    "uniform": (0.5, 12**-0.5),
    "wide": (0.5, 5 * 12**-0.5),
    "half": (0.5, 12**-0.5),
    "normal": (1.0, 2.0),
    "half-normal": (0.0, 1.0),
    "truncated": (1.0, 2 * 0.879626),
    "integers": (5.5, (35 / 12) ** 0.5),
    "long": (-1.5, (35 / 12) ** 0.5),
}


def on(count):
    devices = [f"CPU:{i}" for i in range(count)]
    return tfdp.MirroredStrategy(devices, random_by="sample")


class Drawing(keras.layers.Layer):
    def __init__(self, draw):
        super().__init__()
        self.draw = draw
        self.seed_generator = keras.random.SeedGenerator(7)

    def call(self, x):
        return self.draw(keras.ops.shape(x), self.seed_generator)


def drawn(replicas, layer, *, rows=12, width=5, steps=1, in_graph=True):
    """What a layer draws in each step for rows of zeros, by sample."""
    strategy = on(replicas)
    with strategy.scope():
        made = layer()
    data = tf.data.Dataset.from_tensors(tf.zeros([rows, width])).repeat(steps)
    data = strategy.experimental_distribute_dataset(data)
    run = lambda x: strategy.run(made, args=(x,))  # noqa: E731
    run = tf.function(run) if in_graph else run
    found = []
    for x in data:
        by_replica = strategy.experimental_local_results(run(x))
        found.append(np.concatenate([v.numpy() for v in by_replica]))
    return np.array(found)


@pytest.mark.parametrize("in_graph", [True, False], ids=["graph", "eager"])
@pytest.mark.parametrize("draw", DRAWS)
def test_a_sample_has_its_numbers_on_any_replica(draw, in_graph):
    def layer():
        return Drawing(DRAWS[draw])

    alone = drawn(1, layer, steps=2)
    for replicas, rows, steps in [(2, 12, 2), (3, 12, 2), (4, 6, 4), (2, 3, 8)]:
        found = drawn(
            replicas, layer, rows=rows, steps=steps, in_graph=in_graph
        )
        # Those of a truncated one are rounded as vectors are.
        np.testing.assert_allclose(
            found.reshape(alone.shape).astype("float64"),
            alone.astype("float64"),
            rtol=1e-5 if draw == "truncated" else 0,
            atol=1e-6 if draw == "truncated" else 0,
        )


@pytest.mark.parametrize("draw", DRAWS)
def test_numbers_are_spread_as_they_should_be(draw):
    values = drawn(2, lambda: Drawing(DRAWS[draw]), rows=200, width=501)[0]
    values = values.astype("float64")
    mean, deviation = MOMENTS[draw]
    error = deviation / values.size**0.5
    assert abs(values.mean() - mean) < 5 * error
    assert values.std() == pytest.approx(deviation, rel=0.02)
    if draw not in ("integers", "long", "half", "half-normal"):
        assert len(np.unique(values)) > 0.98 * values.size


def correlation(a, b):
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def test_samples_steps_and_calls_are_independent():
    def twice():
        layer = Drawing(DRAWS["normal"])
        return lambda x: tf.concat([layer(x), layer(x)], 1)

    values = drawn(2, twice, rows=100, width=403, steps=3)
    first, second = np.split(values, 2, axis=2)
    bound = 5 / first[0].size ** 0.5
    for a, b in [
        (first[0], first[1]),
        (first[1], first[2]),
        (first, second),
        (first[:, 1:], first[:, :-1]),
        (first[:, :, 1:], first[:, :, :-1]),
        (first[:, 1:, :-1], second[:, :-1, 1:]),
    ]:
        assert abs(correlation(a, b)) < bound


def test_rows_of_other_lengths_do_not_meet():
    strategy = on(1)
    with strategy.scope():
        layer = Drawing(DRAWS["uniform"])
    seen = set()
    for width in (8, 4, 12, 8):
        values = strategy.run(layer, args=(tf.zeros([64, width]),)).numpy()
        assert not seen & set(values.ravel().tolist())
        seen.update(values.ravel().tolist())


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_drops_at_its_rate(rate):
    layer = keras.layers.Dropout(rate, seed=3)
    rows, width = 300, 400
    ones = tf.ones([rows, width])

    def make():
        own = keras.layers.Dropout(rate, seed=3)
        return lambda x: own(tf.ones_like(x), training=True)

    kept = drawn(2, make, rows=rows, width=width)[0]
    np.testing.assert_allclose(np.unique(kept), [0, 1 / (1 - rate)], rtol=1e-6)
    error = (rate * (1 - rate) / kept.size) ** 0.5
    assert abs((kept == 0).mean() - rate) < 5 * error
    for axis, count in ((0, rows), (1, width)):
        spread = (kept == 0).mean(axis).std()
        expected = (rate * (1 - rate) / count) ** 0.5
        assert spread == pytest.approx(expected, rel=0.2)
    assert not np.array_equal(kept, layer(ones, training=True))


def test_generators_of_other_seeds_draw_others():
    def of(seed):
        def make():
            own = keras.layers.GaussianNoise(1.0, seed=seed)
            return lambda x: own(x, training=True)

        return drawn(2, make, rows=100, width=100)

    assert abs(correlation(of(1), of(2))) < 0.05
    np.testing.assert_array_equal(of(1), of(1))


def test_replicas_without_samples_count_those_of_others():
    # As TensorFlow shares out 6 samples, and then 3.
    strategy = on(4)
    with strategy.scope():
        layer = Drawing(DRAWS["uniform"])
    data = tf.data.Dataset.from_tensor_slices(tf.zeros([9, 2])).batch(6)
    data = strategy.experimental_distribute_dataset(data)
    rows = [
        v.numpy()
        for x in data
        for v in strategy.experimental_local_results(
            strategy.run(layer, args=(x,))
        )
    ]
    assert [len(each) for each in rows] == [2, 2, 2, 0, 1, 1, 1, 0]
    alone = drawn(1, lambda: Drawing(DRAWS["uniform"]), rows=9, width=2)[0]
    np.testing.assert_array_equal(np.concatenate(rows), alone)


def test_outside_of_a_step_keras_draws():
    with on(2).scope():
        layer = keras.layers.Dropout(0.5, seed=3)
    assert type(layer.seed_generator) is SampleSeedGenerator
    ones = tf.ones([64])
    np.testing.assert_array_equal(
        layer(ones, training=True),
        keras.layers.Dropout(0.5, seed=3)(ones, training=True),
    )


def stepped(call, rows=4, spec=None):
    """Runs a step, of rows that are known when it is traced or not."""
    strategy = on(2)
    with strategy.scope():
        generator = keras.random.SeedGenerator(1)
    step = tf.function(
        lambda x: strategy.run(lambda y: call(y, generator), args=(x,)),
        input_signature=spec and [spec],
    )
    return step(tf.zeros([rows, 3]))


ANY_ROWS = tf.TensorSpec([None, 3])


@pytest.mark.parametrize(
    ("draw", "error", "received"),
    [
        (lambda x: (), ValueError, "one number for all"),
        (
            lambda x: (3, 4),
            tf.errors.InvalidArgumentError,
            "another number of rows",
        ),
        (
            lambda x: (2 * tf.shape(x)[0],),
            tf.errors.InvalidArgumentError,
            "another number of rows",
        ),
    ],
    ids=["none", "constant", "twice"],
)
@pytest.mark.parametrize("spec", [None, ANY_ROWS], ids=["known", "unknown"])
def test_numbers_that_are_not_of_samples_are_refused(
    draw, error, received, spec
):
    def call(x, seed):
        return keras.random.uniform(draw(x), seed=seed)

    with pytest.raises(error, match=f"{received}, drawn by .*seed_g") as told:
        stepped(call, spec=spec)
    assert "what a layer draws has a row for each sample" in str(told.value)
    assert "leave the strategy at" in str(told.value)


@pytest.mark.parametrize(
    "call",
    [
        lambda x, seed: keras.random.categorical(x, 1, seed=seed),
        lambda x, seed: keras.random.gamma(tf.shape(x), 1.0, seed=seed),
        lambda x, seed: keras.random.beta(tf.shape(x), 1.0, 1.0, seed=seed),
    ],
    ids=["categorical", "gamma", "beta"],
)
def test_other_distributions_are_refused(call):
    with pytest.raises(TypeError, match="another use of the seed of 'seed_g"):
        stepped(call)


@pytest.mark.parametrize(
    "wrapped",
    [
        tf.function,
        lambda draw: lambda x: tf.map_fn(lambda _: draw(x), tf.range(2.0)),
        lambda draw: (
            lambda x: tf.cond(tf.reduce_sum(x) > 0, lambda: draw(x), lambda: x)
        ),
    ],
    ids=["function", "loop", "condition"],
)
def test_a_draw_that_may_run_any_number_of_times_is_refused(wrapped):
    def call(x, seed):
        return wrapped(lambda y: keras.random.uniform(tf.shape(y), seed=seed))(
            x
        )

    with pytest.raises(
        ValueError, match="used in a loop, a condition or a `tf.function`"
    ):
        stepped(call, spec=ANY_ROWS)


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (lambda x: tf.random.uniform(tf.shape(x)), "RandomUniform"),
        (
            lambda x: keras.random.uniform(tf.shape(x), seed=3),
            "StatelessRandom",
        ),
        (lambda x: tf.random.shuffle(x), "RandomShuffle"),
    ],
    ids=["tensorflow", "number", "shuffle"],
)
def test_numbers_from_elsewhere_are_told_of(call, kind):
    with pytest.warns(UserWarning, match=f"Received: {kind}.* in a step"):
        stepped(lambda x, _: call(x))


def test_what_is_neither_is_refused():
    with pytest.raises(ValueError, match="Received: random_by='batch'"):
        tfdp.MirroredStrategy(["CPU:0"], random_by="batch")
    with pytest.raises(ValueError, match="Received: random_by=None"):
        tfdp.auto_strategy(random_by=None)


def test_a_generator_is_serialised():
    with on(2).scope():
        generator = keras.random.SeedGenerator(3)
    config = keras.saving.serialize_keras_object(generator)
    assert config["registered_name"] == "tfdp>SampleSeedGenerator"
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is SampleSeedGenerator
    assert again.get_config() == generator.get_config()
