"""Random layers draw different numbers on every replica, from one seed."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfdp
from tfdp.step.randomness import ReplicaSeedGenerator

RANDOM_LAYERS = {
    "dropout": lambda: keras.layers.Dropout(0.5),
    "noise": lambda: keras.layers.GaussianNoise(1.0),
    "gaussian-dropout": lambda: keras.layers.GaussianDropout(0.5),
    "spatial-dropout": lambda: keras.layers.SpatialDropout1D(0.5),
}


def on(count):
    return tfdp.MirroredStrategy([f"CPU:{i}" for i in range(count)])


def make(strategy, layer=RANDOM_LAYERS["dropout"]):
    with strategy.scope():
        keras.utils.set_random_seed(7)
        return layer()


def drawn(strategy, layer, times=3, in_graph=True):
    """What the replicas make of ones, by time and replica."""

    def step():
        ones = tf.ones((2, 3, 16))
        return strategy.run(lambda: layer(ones, training=True))

    if in_graph:
        step = tf.function(step)
    return [
        [v.numpy() for v in strategy.experimental_local_results(step())]
        for _ in range(times)
    ]


def are_different(draws):
    flat = [array.tobytes() for by_replica in draws for array in by_replica]
    return len(set(flat)) == len(flat)


@pytest.mark.parametrize("layer", RANDOM_LAYERS.values(), ids=RANDOM_LAYERS)
@pytest.mark.parametrize("replicas", [2, 4])
def test_every_replica_draws_its_own_numbers(replicas, layer):
    strategy = on(replicas)
    draws = drawn(strategy, make(strategy, layer))
    assert [len(by_replica) for by_replica in draws] == [replicas] * 3
    assert are_different(draws)


@pytest.mark.parametrize("replicas", [2, 4])
def test_every_replica_draws_its_own_numbers_eagerly_too(replicas):
    strategy = on(replicas)
    layer = make(strategy)
    draws = drawn(strategy, layer, in_graph=False)
    assert are_different(draws)
    again = drawn(strategy, make(strategy))
    np.testing.assert_array_equal(draws, again)


def test_replica_0_draws_what_one_device_does(strategy):
    draws = drawn(strategy, make(strategy))
    keras.utils.set_random_seed(7)
    alone = keras.layers.Dropout(0.5)
    for by_replica in draws:
        expected = alone(tf.ones((2, 3, 16)), training=True)
        np.testing.assert_array_equal(by_replica[0], expected)


def test_the_same_seed_draws_the_same_numbers_again(strategy):
    draws = drawn(strategy, make(strategy))
    np.testing.assert_array_equal(draws, drawn(strategy, make(strategy)))


def test_more_replicas_do_not_change_what_the_first_ones_draw():
    two, four = on(2), on(4)
    draws = np.array(drawn(four, make(four)))
    np.testing.assert_array_equal(drawn(two, make(two)), draws[:, :2])


def test_the_state_is_the_same_on_all_replicas(strategy):
    layer = make(strategy)
    drawn(strategy, layer, times=3)
    state = layer.seed_generator.state.value
    local = [v.numpy() for v in strategy.experimental_local_results(state)]
    assert len(local) == strategy.num_replicas_in_sync
    alone = keras.random.SeedGenerator(int(local[0][0]))
    for _ in range(3):
        alone.next()
    np.testing.assert_array_equal(local, [alone.state.numpy()] * len(local))


@pytest.mark.filterwarnings("ignore:What a layer keeps of a batch")
def test_a_fit_draws_different_numbers(two_replicas):
    class Noting(keras.layers.Layer):
        def build(self, shape):
            self.seen = self.add_weight(shape=shape[1:], trainable=False)

        def call(self, inputs):
            self.seen.assign(inputs[0])
            return inputs

    with two_replicas.scope():
        model = keras.Sequential(
            [
                keras.Input((16,)),
                keras.layers.Dropout(0.5),
                Noting(),
                keras.layers.Dense(1),
            ]
        )
        optimizer = tfdp.DistributedOptimizer(keras.optimizers.SGD(0.1))
        model.compile(optimizer, "mse")
    model.fit(np.ones((8, 16)), np.ones((8, 1)), batch_size=4, verbose=0)
    seen = model.layers[1].seen.value
    local = two_replicas.experimental_local_results(seen)
    assert are_different([[v.numpy() for v in local]])


def test_nothing_is_drawn_by_replica_outside_of_a_step(two_replicas):
    layer = make(two_replicas)
    keras.utils.set_random_seed(7)
    alone = keras.layers.Dropout(0.5)
    ones = tf.ones((64,))
    for _ in range(2):
        np.testing.assert_array_equal(
            layer(ones, training=True), alone(ones, training=True)
        )


@pytest.mark.parametrize("suffix", ["keras", "weights.h5"])
def test_a_loaded_model_draws_different_numbers(two_replicas, tmp_path, suffix):
    def model():
        inputs = keras.Input((3, 16))
        dropped = keras.layers.Dropout(0.5)(inputs)
        return keras.Model(inputs, keras.layers.Dense(16)(dropped))

    path = tmp_path / f"saved.{suffix}"
    saved = make(two_replicas, model)
    drawn(two_replicas, saved)
    if suffix == "keras":
        saved.save(path)
        loaded = make(two_replicas, lambda: keras.saving.load_model(path))
    else:
        saved.save_weights(path)
        loaded = make(two_replicas, model)
        loaded.load_weights(path)
    for actual, expected in zip(
        loaded.get_weights(), saved.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(actual, expected)
    assert type(loaded.layers[1].seed_generator) is ReplicaSeedGenerator
    assert are_different(drawn(two_replicas, loaded))


@pytest.mark.parametrize("saves_in_scope", [True, False])
def test_weights_are_loaded_across_the_edge_of_a_scope(
    two_replicas, tmp_path, saves_in_scope
):
    def model():
        layers = [keras.layers.Dropout(0.5), keras.layers.Dense(2)]
        return keras.Sequential([keras.Input((4,)), *layers])

    inside, outside = make(two_replicas, model), model()
    saved, loaded = (inside, outside) if saves_in_scope else (outside, inside)
    saved.save_weights(tmp_path / "saved.weights.h5")
    loaded.load_weights(tmp_path / "saved.weights.h5")
    for actual, expected in zip(
        loaded.get_weights(), saved.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(actual, expected)


def test_a_generator_of_a_scope_is_one_of_keras(two_replicas):
    with two_replicas.scope():
        generator = keras.random.SeedGenerator(3)
    assert type(generator) is ReplicaSeedGenerator
    assert isinstance(generator, keras.random.SeedGenerator)
    assert generator.get_config()["seed"] == 3
    other = keras.random.SeedGenerator(3)
    for ordered in (True, False):
        np.testing.assert_array_equal(
            generator.next(ordered), other.next(ordered)
        )


def test_a_generator_outside_of_a_scope_stays_plain(two_replicas):
    make(two_replicas)
    assert type(keras.random.SeedGenerator(3)) is keras.random.SeedGenerator
    layer = keras.layers.Dropout(0.5)
    assert type(layer.seed_generator) is keras.random.SeedGenerator


def test_a_generator_of_the_users_own_stays_what_it_is(two_replicas):
    class Own(keras.random.SeedGenerator):
        pass

    with two_replicas.scope():
        assert type(Own(3)) is Own


def test_a_generator_is_serialised(two_replicas):
    with two_replicas.scope():
        generator = keras.random.SeedGenerator(3)
    config = keras.saving.serialize_keras_object(generator)
    assert config["registered_name"] == "tfdp>ReplicaSeedGenerator"
    with two_replicas.scope():
        again = keras.saving.deserialize_keras_object(config)
    assert type(again) is ReplicaSeedGenerator
    assert again.get_config() == generator.get_config()
    np.testing.assert_array_equal(again.next(), generator.next())


def is_inside(strategy):
    """Whether the scope acts on what is made here, all of it or none."""
    generator = keras.random.SeedGenerator(1)
    signs = {
        tf.distribute.get_strategy() is strategy,
        hasattr(tf.Variable(1.0), "values"),
        type(generator) is ReplicaSeedGenerator,
    }
    assert len(signs) == 1
    return signs.pop()


def test_a_scope_may_be_entered_again_and_again(two_replicas):
    scope = two_replicas.scope()
    for _ in range(2):
        with scope as entered:
            assert entered is two_replicas
            assert is_inside(two_replicas)
            with scope, two_replicas.scope():
                assert is_inside(two_replicas)
            assert is_inside(two_replicas)
        assert not is_inside(two_replicas)


def test_a_scope_is_left_by_an_error_too(two_replicas):
    scope = two_replicas.scope()
    with pytest.raises(ZeroDivisionError, match="division by zero"), scope:
        1 / 0  # noqa: B018
    assert not is_inside(two_replicas)
    with scope:
        assert is_inside(two_replicas)
