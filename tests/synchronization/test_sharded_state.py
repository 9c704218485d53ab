"""A state that replicas have shared out, against plain Keras on one device."""

import functools

import keras
import numpy as np
import pytest
import sharded_state
import tensorflow as tf
from owners import LATER_WITHOUT, assert_equals, built, later
from problem import deviation
from sharded_state import OPTIMIZERS, compiled, fit

import tfdp


def test_every_optimizer_of_keras_is_here():
    left_out = {"Optimizer", "LossScaleOptimizer", "MultiOptimizer"}
    built_in = {
        value.__name__
        for value in vars(keras.optimizers).values()
        if isinstance(value, type)
        and issubclass(value, keras.optimizers.Optimizer)
    }
    tested = {type(make()).__name__ for make in OPTIMIZERS.values()}
    assert tested >= built_in - left_out


@pytest.mark.parametrize("kind", later(OPTIMIZERS))
def test_owners_update_as_one_device(two_replicas, oracle, kind):
    model = fit(compiled(two_replicas, kind))
    assert_equals(two_replicas, model, oracle(kind))


@pytest.mark.parametrize("kind", later(OPTIMIZERS, []))
def test_four_owners_update_as_one_device(four_replicas, oracle, kind):
    model = fit(compiled(four_replicas, kind))
    assert_equals(four_replicas, model, oracle(kind))


@pytest.mark.parametrize("kind", later(OPTIMIZERS, ["AdamW, clipped"]))
def test_gradients_summed_at_owners_are_those_of_one_device(
    two_replicas, oracle, kind
):
    way = tfdp.ShardedState(gradients=True)
    model = fit(compiled(two_replicas, kind, synchronization=way))
    assert_equals(two_replicas, model, oracle(kind))


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("steps", "gradients", "options"),
    [
        (2, False, {"loss_scale": "dynamic", "initial_scale": 1024.0}),
        (2, True, {"loss_scale": 8.0}),
        pytest.param(4, True, {}, marks=pytest.mark.long),
        pytest.param(4, False, {}, marks=pytest.mark.long),
        pytest.param(
            1, True, {"loss_scale": "dynamic"}, marks=pytest.mark.long
        ),
    ],
)
def test_cycles_and_loss_scales_go_before(
    two_replicas, oracle, steps, gradients, options
):
    kind, way = "AdamW, clipped", tfdp.ShardedState(gradients=gradients)
    model = compiled(two_replicas, kind, steps, synchronization=way, **options)
    assert_equals(two_replicas, fit(model), oracle(kind))


@pytest.mark.parametrize("gradients", [False, True])
def test_an_overflow_leaves_every_owner_as_it_was(two_replicas, gradients):
    with two_replicas.scope():
        weights = [keras.Variable(np.ones((4, 4), "float32")) for _ in "ab"]
        optimizer = tfdp.DistributedOptimizer(
            keras.optimizers.Adam(0.1),
            loss_scale="dynamic",
            synchronization=tfdp.ShardedState(gradients=gradients),
        )
        optimizer.build(weights)
    # By the weight that the second replica owns.
    factors = [tf.ones((4, 4)), tf.fill((4, 4), np.inf)]

    @tf.function
    def step(factor):
        two_replicas.run(
            lambda f: optimizer.apply([factors[0], factors[1] * f], weights),
            args=(factor,),
        )

    step(tf.constant(1.0))
    assert int(optimizer.skipped_updates.numpy()) == 1
    assert int(optimizer.iterations.numpy()) == 0
    for slot in optimizer.owned_variables:
        np.testing.assert_array_equal(slot.numpy(), 0.0)


@pytest.mark.parametrize("gradients", [LATER_WITHOUT, True])
def test_compressed_gradients_give_what_they_give_without(
    two_replicas, gradients
):
    options = {"compression": "bfloat16"}
    way = tfdp.ShardedState(gradients=gradients)
    model = compiled(two_replicas, "Adam", synchronization=way, **options)
    whole = compiled(
        two_replicas, "Adam", synchronization=tfdp.Synchronous(), **options
    )
    actual = fit(model, epochs=1).get_weights()
    expected = fit(whole, epochs=1).get_weights()
    assert deviation(actual, expected) <= 1e-6


@pytest.mark.parametrize("gradients", [LATER_WITHOUT, True])
def test_rows_of_an_embedding_are_updated_as_without(two_replicas, gradients):
    def trained(way):
        with two_replicas.scope():
            keras.utils.set_random_seed(1)
            model = keras.Sequential(
                [
                    keras.Input((4,), dtype="int32"),
                    keras.layers.Embedding(50, 3),
                    keras.layers.GlobalAveragePooling1D(),
                    keras.layers.Dense(2),
                ]
            )
            inner = keras.optimizers.Adam(0.1, global_clipnorm=0.1)
            model.compile(
                tfdp.DistributedOptimizer(inner, synchronization=way), "mse"
            )
        tokens = np.arange(64, dtype="int32").reshape(16, 4) % 7
        model.fit(
            tf.data.Dataset.from_tensor_slices((tokens, tokens[:, :2])).batch(
                8
            ),
            epochs=2,
            verbose=0,
            callbacks=[tfdp.callbacks.DataParallel()],
        )
        return model.get_weights()

    actual = trained(tfdp.ShardedState(gradients=gradients))
    assert deviation(actual, trained(None)) <= 1e-6


def test_a_number_that_is_a_rate_may_change(two_replicas):
    halved = keras.callbacks.LearningRateScheduler(
        lambda epoch, rate: float(rate / 2)
    )
    plain = sharded_state.make_model()
    plain.compile(OPTIMIZERS["Adam"](), "mse")
    plain.fit(sharded_state.dataset(), epochs=2, verbose=0, callbacks=[halved])
    model = fit(compiled(two_replicas, "Adam"), halved)
    assert_equals(two_replicas, model, plain)


def test_variables_that_are_excluded_one_by_one_do_not_decay(two_replicas):
    def make(variables):
        optimizer = keras.optimizers.AdamW(0.1, weight_decay=0.5)
        optimizer.exclude_from_weight_decay(var_list=variables[1:])
        return optimizer

    def updated(strategy, wrap):
        with strategy.scope():
            weights = [
                keras.Variable(np.full((3, n), 2.0, "float32"))
                for n in (2, 3, 4)
            ]
            optimizer = wrap(make(weights))
            optimizer.build(weights)
        gradients = [tf.ones(v.shape) for v in weights]
        step = tf.function(
            lambda: strategy.run(lambda: optimizer.apply(gradients, weights))
        )
        step()
        return [v.numpy() for v in weights]

    actual = updated(
        two_replicas,
        lambda inner: tfdp.DistributedOptimizer(
            inner, synchronization=tfdp.ShardedState()
        ),
    )
    default = tf.distribute.get_strategy()
    expected = updated(default, lambda inner: inner)
    assert deviation(actual, expected) <= 1e-6


def test_a_variable_without_a_gradient_stays_and_others_go_on(two_replicas):
    # The other owner's, whose product of momenta must go on all the same.
    sizes, given = [(40,), (30,), (20,)], [(0, 1, 2), (1, 2), (1, 2), (0, 1, 2)]

    def updated(strategy, wrap):
        with strategy.scope():
            weights = [keras.Variable(np.ones(s, "float32")) for s in sizes]
            optimizer = wrap(keras.optimizers.Nadam(0.1))
            optimizer.build(weights)

        for places in given:
            some = [weights[place] for place in places]
            gradients = [tf.fill(v.shape, 0.3) for v in some]

            apply = functools.partial(optimizer.apply, gradients, some)
            tf.function(functools.partial(strategy.run, apply))()
        return [v.numpy() for v in weights], optimizer

    expected, _ = updated(tf.distribute.get_strategy(), lambda inner: inner)
    actual, optimizer = updated(
        two_replicas,
        lambda inner: tfdp.DistributedOptimizer(
            inner, synchronization=tfdp.ShardedState()
        ),
    )
    assert optimizer.state_bytes() == [320, 400]
    assert deviation(actual, expected) <= 1e-6


def test_each_owner_holds_about_half(two_replicas):
    with two_replicas.scope():
        weights = [
            keras.Variable(np.ones((8, n), "float32")) for n in (64, 60, 50, 56)
        ]
        optimizer = tfdp.DistributedOptimizer(
            keras.optimizers.Adam(), synchronization=tfdp.ShardedState()
        )
        assert optimizer.state_bytes() == [0, 0]
        optimizer.build(weights)
    held = {}
    for slot in optimizer.owned_variables:
        device = slot.value.device
        held[device] = held.get(device, 0) + slot.numpy().nbytes
    assert sorted(held.values()) == sorted(optimizer.state_bytes())
    # Two slots of 4 bytes for each number.
    whole = 2 * 4 * 8 * (64 + 60 + 50 + 56)
    assert sum(optimizer.state_bytes()) == whole
    assert max(optimizer.state_bytes()) <= 0.51 * whole


def test_without_sharding_each_replica_holds_all(two_replicas):
    whole = tfdp.Synchronous()
    model = compiled(two_replicas, "Adam", synchronization=whole)
    built(model, two_replicas)
    whole = 8 * model.count_params()
    assert model.optimizer.state_bytes() == [whole, whole]
    sharded = built(compiled(two_replicas, "Adam"), two_replicas)
    assert sum(sharded.optimizer.state_bytes()) == whole


def test_steps_without_a_graph_are_those_of_one_device(two_replicas):
    def trained(strategy, wrap):
        with strategy.scope():
            weights = [keras.Variable(np.ones(n, "float32")) for n in (4, 3)]
            optimizer = wrap(keras.optimizers.Adam(0.1, global_clipnorm=0.5))
            optimizer.build(weights)
        gradients = [tf.fill(v.shape, 0.3) for v in weights]
        for _ in range(3):
            strategy.run(lambda: optimizer.apply(gradients, weights))
        return [v.numpy() for v in weights]

    expected = trained(tf.distribute.get_strategy(), lambda inner: inner)
    for gradients in (False, True):
        way = tfdp.ShardedState(gradients=gradients)
        actual = trained(
            two_replicas,
            functools.partial(tfdp.DistributedOptimizer, synchronization=way),
        )
        assert deviation(actual, expected) <= 1e-6


@pytest.mark.parametrize("gradients", [LATER_WITHOUT, True])
def test_noise_is_measured_as_without(two_replicas, gradients):
    def measured(way):
        model = compiled(two_replicas, "Adam", synchronization=way)
        monitor = tfdp.callbacks.NoiseScaleMonitor()
        fit(model, monitor, epochs=1)
        return model.optimizer.noise_scale

    actual = measured(tfdp.ShardedState(gradients=gradients))
    expected = measured(tfdp.Synchronous())
    assert actual.noise > 0
    np.testing.assert_allclose(actual.noise, expected.noise, rtol=1e-4)


class Counting(keras.optimizers.SGD):
    """Keeps a number that belongs to no variable."""

    def build(self, variables):
        super().build(variables)
        self.seen = self.add_variable((), name="seen")


class Looking(keras.optimizers.SGD):
    """Looks at all gradients together."""

    def apply(self, grads, trainable_variables=None):
        super().apply([g / len(grads) for g in grads], trainable_variables)


def several():
    return keras.optimizers.MultiOptimizer(
        lambda variable: keras.optimizers.SGD()
    )


@pytest.mark.parametrize(
    ("make", "match"),
    [
        pytest.param(
            several,
            "with a MultiOptimizer",
            marks=pytest.mark.skipif(
                not hasattr(keras.optimizers, "MultiOptimizer"),
                reason="new in Keras 3.13",
            ),
        ),
        (lambda: tfdp.AdaScale(0.1, base_batch=8), "with AdaScale"),
        (
            lambda: keras.optimizers.SGD(
                use_ema=True, ema_overwrite_frequency=2
            ),
            "with `ema_overwrite_frequency`",
        ),
        (Looking, "an optimizer with an `apply` of its own"),
    ],
)
def test_what_owners_cannot_do_is_refused_at_once(two_replicas, make, match):
    inner = make()
    with two_replicas.scope(), pytest.raises(ValueError, match=match):
        tfdp.DistributedOptimizer(inner, synchronization=tfdp.ShardedState())


def test_what_belongs_to_no_variable_is_refused(two_replicas):
    with two_replicas.scope():
        optimizer = tfdp.DistributedOptimizer(
            Counting(), synchronization=tfdp.ShardedState()
        )
        with pytest.raises(ValueError, match="seen' belongs to none"):
            optimizer.build([keras.Variable(np.ones(3))])


def test_averages_of_what_no_gradient_reaches_are_refused(two_replicas):
    with two_replicas.scope():
        weights = [keras.Variable(np.ones(n, "float32")) for n in (4, 3)]
        optimizer = tfdp.DistributedOptimizer(
            keras.optimizers.Adam(use_ema=True),
            synchronization=tfdp.ShardedState(),
        )
        optimizer.build(weights)
    with pytest.raises(ValueError, match="none for what replica 1 owns"):
        two_replicas.run(
            lambda: optimizer.apply([tf.ones(4)], weights[:1]),
        )


def test_replicas_of_other_strategies_own_nothing():
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with (
        strategy.scope(),
        pytest.raises(RuntimeError, match="synchronization=ShardedState needs"),
    ):
        tfdp.DistributedOptimizer(
            keras.optimizers.Adam(), synchronization=tfdp.ShardedState()
        )


@pytest.mark.parametrize("gradients", [False, True])
def test_averages_are_not_swapped_where_owners_have_them(
    two_replicas, gradients
):
    with two_replicas.scope():
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        optimizer = tfdp.DistributedOptimizer(
            keras.optimizers.SGD(0.1, use_ema=True),
            synchronization=tfdp.ShardedState(gradients=gradients),
        )
        model.compile(optimizer, "mse")
    callbacks = [
        tfdp.callbacks.DataParallel(),
        keras.callbacks.SwapEMAWeights(),
    ]
    with pytest.raises(ValueError, match="cannot go with SwapEMAWeights"):
        model.fit(np.ones((4, 2)), np.ones((4, 1)), callbacks=callbacks)


def test_gradients_is_a_bool():
    with pytest.raises(TypeError, match="`gradients` must be True or False"):
        tfdp.ShardedState(gradients=2)


def test_it_is_saved_with_its_argument():
    way = tfdp.ShardedState(gradients=True)
    config = keras.saving.serialize_keras_object(way)
    assert keras.saving.deserialize_keras_object(config).gradients is True
