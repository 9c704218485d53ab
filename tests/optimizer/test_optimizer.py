"""The order of an update: what is counted, weighed, clipped, skipped."""

import logging
import warnings

import keras
import numpy as np
import problem
import pytest
import tensorflow as tf

import tfdp

STEPS = 2
CLIPPING = {
    "clipnorm": {"clipnorm": 0.05},
    "global_clipnorm": {"global_clipnorm": 0.05},
    "clipvalue": {"clipvalue": 0.01},
}


def fit(strategy, optimizer, num_samples=120, steps=STEPS, **compile_args):
    with strategy.scope():
        model = problem.make_model()
        optimizer = tfdp.DistributedOptimizer(
            optimizer, accumulation_steps=steps
        )
        model.compile(optimizer, "mse", **compile_args)
    model.fit(
        problem.dataset(num_samples, problem.GLOBAL_BATCH // steps),
        epochs=problem.EPOCHS,
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel()],
    )
    return model


def assert_equals_one_device(model, make_optimizer, num_samples=120, to=1e-5):
    expected, _ = problem.train_on_one_device(make_optimizer, num_samples)
    actual = model.get_weights()
    assert problem.deviation(actual, expected.get_weights()) <= to


@pytest.mark.parametrize("clipping", CLIPPING)
@pytest.mark.parametrize("steps", [1, 2], ids=["1-step", "2-steps"])
def test_clipping_acts_on_the_reduced_gradient(two_replicas, steps, clipping):
    def make():
        return keras.optimizers.SGD(0.5, **CLIPPING[clipping])

    model = fit(two_replicas, make(), steps=steps)
    assert_equals_one_device(model, make, to=1e-6)


def test_gradients_that_cancel_between_replicas_do_not_stop_at_the_clip():
    # Per replica: +10 and -8 clip to +1 and -1, whose sum is no step at all.
    strategy = tfdp.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        variable = keras.Variable([0.0])
        optimizer = tfdp.DistributedOptimizer(
            keras.optimizers.SGD(1.0, clipvalue=0.5)
        )
        optimizer.build([variable])

    @tf.function
    def step():
        def on_replica(values):
            gradient = tf.where(tf.equal(values[0], 0.0), 10.0, -8.0)
            optimizer.apply([tf.reshape(gradient, [1])], [variable])

        values = strategy.experimental_distribute_values_from_function(
            lambda c: tf.constant([float(c.replica_id_in_sync_group)])
        )
        return values, on_replica

    values, on_replica = step.python_function()
    strategy.run(on_replica, args=(values,))
    # The sum, 2, clips to 0.5.
    np.testing.assert_allclose(variable.numpy(), [-0.5])


@pytest.mark.sampled
@pytest.mark.parametrize("steps", [1, 2, 4], ids=lambda k: f"{k}-steps")
def test_schedules_count_updates(two_replicas, steps):
    seen = []

    @keras.saving.register_keras_serializable(package="tests")
    class Recorded(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, update):
            tf.py_function(lambda u: seen.append(int(u)), [update], [])
            return 0.01

        def get_config(self):
            return {}

    fit(two_replicas, keras.optimizers.SGD(Recorded()), steps=steps)
    updates = problem.EPOCHS * 2
    assert sorted(set(seen)) == list(range(updates))


def test_a_schedule_decays_as_on_one_device(two_replicas):
    def make():
        return keras.optimizers.SGD(
            keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)
        )

    assert_equals_one_device(fit(two_replicas, make()), make, to=1e-6)


def test_weight_decay_exclusions_survive_the_copy(two_replicas):
    def make():
        optimizer = keras.optimizers.AdamW(0.01, weight_decay=0.5)
        optimizer.exclude_from_weight_decay(var_names=["bias"])
        return optimizer

    assert_equals_one_device(fit(two_replicas, make()), make)


def test_the_users_optimizer_stays_what_it_was(two_replicas):
    with two_replicas.scope():
        inner = keras.optimizers.Adam(0.01)
    config = inner.get_config()
    fit_with = fit(two_replicas, inner)
    assert fit_with.optimizer.inner_optimizer is not inner
    assert not inner.built
    assert inner.get_config() == config


def test_the_first_short_cycle_is_flushed_before_validation(two_replicas):
    """One cycle of 3 out of 4 micro-batches is all that an epoch has."""
    updates = []

    class Watch(keras.callbacks.Callback):
        def on_test_begin(self, logs=None):
            updates.append(int(self.model.optimizer.iterations.numpy()))

    with two_replicas.scope():
        model = problem.make_model()
        model.compile(
            tfdp.DistributedOptimizer(keras.optimizers.SGD(0.05), 4), "mse"
        )
    history = model.fit(
        problem.dataset(48, 16),
        validation_data=problem.dataset(48, 16),
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel(), Watch()],
    ).history
    assert updates == [1]
    expected, oracle = problem.train_on_one_device(
        problem.OPTIMIZERS["sgd"], 48, epochs=1
    )
    assert problem.deviation(model.get_weights(), expected.get_weights()) < 1e-6
    np.testing.assert_allclose(
        history["val_loss"], oracle["val_loss"], rtol=1e-5
    )


def test_without_the_callback_a_warning_says_so_and_nothing_is_lost(
    two_replicas,
):
    with two_replicas.scope():
        model = problem.make_model()
        model.compile(
            tfdp.DistributedOptimizer(keras.optimizers.SGD(0.05), 4), "mse"
        )
    data = problem.dataset(48, 16)
    with pytest.warns(UserWarning, match="without `callbacks.DataParallel`"):
        model.fit(data, verbose=0)
    assert int(model.optimizer.iterations.numpy()) == 1
    assert int(model.optimizer.micro_step.numpy()) == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(data, verbose=0, shuffle=False)


def test_variables_without_a_gradient_stay_as_they_are(two_replicas):
    class Partly(keras.Model):
        def __init__(self):
            super().__init__()
            self.used = keras.layers.Dense(1)
            self.unused = self.add_weight(shape=(3,), name="unused")

        def build(self, shape):
            self.used.build(shape)

        def call(self, x):
            return self.used(x)

    for steps in (1, 2):
        with two_replicas.scope():
            model = Partly()
            model.compile(
                tfdp.DistributedOptimizer(
                    keras.optimizers.AdamW(0.01, weight_decay=0.9), steps
                ),
                "mse",
            )
            model.build((None, 8))
        before = model.unused.numpy()
        with pytest.warns(UserWarning, match="Gradients do not exist"):
            model.fit(
                problem.dataset(64, 32),
                verbose=0,
                callbacks=[tfdp.callbacks.DataParallel()],
            )
        np.testing.assert_array_equal(model.unused.numpy(), before)


@pytest.mark.sampled
@pytest.mark.parametrize("steps", [1, 2], ids=["1-step", "2-steps"])
def test_repeated_tokens_equal_a_dense_gradient(two_replicas, steps):
    """Adam would square the slices of a token one by one."""
    tokens = np.random.default_rng(0).integers(0, 5, (64, 6))
    y = tokens.sum(1, keepdims=True).astype("float32")

    def make_model(dense):
        keras.utils.set_random_seed(1)
        if dense:
            first = [
                keras.layers.CategoryEncoding(5, output_mode="one_hot"),
                keras.layers.Dense(3, use_bias=False, name="table"),
            ]
            inputs = keras.Input((6,), dtype="int32")
            hot = keras.ops.one_hot(inputs, 5)
            out = first[1](hot)
        else:
            inputs = keras.Input((6,), dtype="int32")
            out = keras.layers.Embedding(5, 3, name="table")(inputs)
        out = keras.layers.Dense(1)(keras.layers.Flatten()(out))
        return keras.Model(inputs, out)

    start = np.random.default_rng(1).normal(size=(5, 3)).astype("float32")
    head = make_model(True).layers[-1].get_weights()
    results = []
    for dense in (True, False):
        scope = tf.distribute.get_strategy() if dense else two_replicas
        with scope.scope():
            model = make_model(dense)
            model.get_layer("table").set_weights([start])
            model.layers[-1].set_weights(head)
            optimizer = keras.optimizers.Adam(0.05)
            if not dense:
                optimizer = tfdp.DistributedOptimizer(optimizer, steps)
            model.compile(optimizer, "mse")
        batch = 32 if dense else 32 // steps
        data = tf.data.Dataset.from_tensor_slices((tokens, y)).batch(batch)
        callbacks = [] if dense else [tfdp.callbacks.DataParallel()]
        model.fit(data, epochs=3, verbose=0, callbacks=callbacks)
        results.append(model.get_weights())
    assert problem.deviation(results[1], results[0]) <= 1e-5


def test_accumulation_1_works_under_a_plain_strategy():
    strategy = tf.distribute.MirroredStrategy(
        ["CPU:0", "CPU:1"],
        cross_device_ops=tf.distribute.ReductionToOneDevice(),
    )

    def make():
        return keras.optimizers.SGD(0.5, global_clipnorm=0.05)

    with strategy.scope():
        model = problem.make_model()
        model.compile(tfdp.DistributedOptimizer(make()), "mse")
    model.fit(problem.dataset(128, 64), epochs=problem.EPOCHS, verbose=0)
    assert_equals_one_device(model, make, num_samples=128, to=1e-6)


def test_accumulation_1_works_without_a_strategy():
    def make():
        return keras.optimizers.Adam(0.01)

    model = problem.make_model()
    model.compile(tfdp.DistributedOptimizer(make()), "mse")
    model.fit(problem.dataset(120, 64), epochs=problem.EPOCHS, verbose=0)
    assert_equals_one_device(model, make)


def test_accumulation_is_refused_outside_of_a_tfdp_strategy():
    with pytest.raises(
        RuntimeError,
        match=r"accumulation_steps=2 needs a strategy that counts samples",
    ):
        tfdp.DistributedOptimizer(keras.optimizers.SGD(0.1), 2)
    plain = tf.distribute.MirroredStrategy(["CPU:0"])
    with plain.scope(), pytest.raises(RuntimeError, match="auto_strategy"):
        tfdp.DistributedOptimizer(keras.optimizers.SGD(0.1), 2)


def test_an_optimizer_made_outside_of_the_scope_is_refused(two_replicas):
    with two_replicas.scope():
        model = problem.make_model()
    model.compile(tfdp.DistributedOptimizer(keras.optimizers.SGD(0.1)), "mse")
    with pytest.raises(
        RuntimeError, match=r"created in the scope .* used under Mirrored"
    ):
        model.fit(problem.dataset(64, 64), verbose=0)


def test_a_model_made_outside_of_the_scope_is_refused(two_replicas):
    model = problem.make_model()
    with two_replicas.scope():
        optimizer = tfdp.DistributedOptimizer(keras.optimizers.SGD(0.1))
    model.compile(optimizer, "mse")
    with pytest.raises(RuntimeError, match="created in the scope"):
        model.fit(problem.dataset(64, 64), verbose=0)


def test_cross_replica_context_is_refused(two_replicas):
    with two_replicas.scope():
        variable = keras.Variable([1.0])
        optimizer = tfdp.DistributedOptimizer(keras.optimizers.SGD(0.1))
        with pytest.raises(RuntimeError, match="on every replica. Received"):
            optimizer.apply([tf.constant([1.0])], [variable])


def test_accumulating_outside_of_run_is_refused(two_replicas):
    with two_replicas.scope():
        variable = keras.Variable([1.0])
        optimizer = tfdp.DistributedOptimizer(keras.optimizers.SGD(0.1), 2)
        optimizer.build([variable])

        def uncounted():
            optimizer.apply([tf.constant([1.0])], [variable])

        with pytest.raises(RuntimeError, match=r"`fit` or `strategy.run`"):
            two_replicas.extended.call_for_each_replica(uncounted)


def test_other_variables_in_the_same_cycle_are_refused(two_replicas):
    with two_replicas.scope():
        variables = [keras.Variable([1.0]), keras.Variable([2.0])]
        optimizer = tfdp.DistributedOptimizer(keras.optimizers.SGD(0.1), 2)
        optimizer.build(variables)

    def step(count):
        optimizer.apply([tf.constant([1.0])] * count, variables[:count])

    two_replicas.run(lambda: step(2))
    with pytest.raises(
        ValueError,
        match="for variables 0 of those that the optimizer trains after",
    ):
        two_replicas.run(lambda: step(1))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("sgd",), TypeError, "must be a `keras.optimizers.Optimizer`"),
        ((None,), TypeError, "inner_optimizer=None"),
        ((keras.optimizers.SGD(0.1), 0), ValueError, "accumulation_steps=0"),
        ((keras.optimizers.SGD(0.1), -3), ValueError, "accumulation_steps=-3"),
        ((keras.optimizers.SGD(0.1), 2.0), TypeError, "must be an integer"),
        ((keras.optimizers.SGD(0.1), True), TypeError, "must be an integer"),
        (
            (keras.optimizers.SGD(0.1, gradient_accumulation_steps=4),),
            ValueError,
            "gradient_accumulation_steps=4. Leave it out",
        ),
        (
            (
                keras.optimizers.MultiOptimizer(
                    keras.optimizers.OptimizerMap(
                        keras.optimizers.SGD(0.1, gradient_accumulation_steps=4)
                    )
                ),
            ),
            ValueError,
            "gradient_accumulation_steps=4. Leave it out",
        ),
        (
            (keras.optimizers.SGD(0.1, loss_scale_factor=8.0),),
            ValueError,
            "loss_scale_factor=8.0. Leave it out",
        ),
        (
            (keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1)),),
            ValueError,
            "must not scale the loss itself",
        ),
    ],
)
def test_bad_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        tfdp.DistributedOptimizer(*arguments)


def several(kind):
    """One optimizer for biases, and one for all else."""
    first, second = keras.optimizers.Adam(0.01), keras.optimizers.SGD(0.05)
    if kind == "function":
        return keras.optimizers.MultiOptimizer(
            lambda variable: first if "bias" in variable.path else second
        )
    return keras.optimizers.MultiOptimizer(
        keras.optimizers.OptimizerMap(second, {".*bias": first})
    )


@pytest.mark.sampled
@pytest.mark.skipif(
    not hasattr(keras.optimizers, "MultiOptimizer"),
    reason="this Keras has no MultiOptimizer",
)
@pytest.mark.parametrize("kind", ["map", "function"])
@pytest.mark.parametrize("steps", [1, 2], ids=["1-step", "2-steps"])
def test_optimizers_by_variable_equal_one_device(two_replicas, steps, kind):
    model = fit(two_replicas, several(kind), steps=steps)
    assert_equals_one_device(model, lambda: several(kind))


@pytest.mark.skipif(
    not hasattr(keras.optimizers, "MultiOptimizer"),
    reason="this Keras has no MultiOptimizer",
)
def test_optimizers_by_variable_are_saved(two_replicas, tmp_path):
    model = fit(two_replicas, several("map"))
    model.save(tmp_path / "saved.keras")
    with two_replicas.scope():
        loaded = keras.models.load_model(tmp_path / "saved.keras")
    for each in (model, loaded):
        each.fit(
            problem.dataset(120, 32),
            verbose=0,
            callbacks=[tfdp.callbacks.DataParallel()],
        )
    assert problem.deviation(loaded.get_weights(), model.get_weights()) <= 1e-6


@pytest.mark.sampled
@pytest.mark.parametrize("steps", [1, 2], ids=["1-step", "2-steps"])
def test_averages_overwrite_weights_before_their_constraint(
    two_replicas, steps
):
    def make_model():
        keras.utils.set_random_seed(1)
        bound = keras.constraints.MaxNorm(0.3)
        first = keras.layers.Dense(8, kernel_constraint=bound)
        return keras.Sequential([keras.Input((8,)), first])

    def make_optimizer():
        return keras.optimizers.SGD(
            0.5, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=3
        )

    weights = []
    for strategy in (tf.distribute.get_strategy(), two_replicas):
        with strategy.scope():
            model = make_model()
            optimizer = make_optimizer()
            callbacks = []
            if strategy is two_replicas:
                optimizer = tfdp.DistributedOptimizer(optimizer, steps)
                callbacks = [tfdp.callbacks.DataParallel()]
            model.compile(optimizer, "mse")
        batch = 32 // (steps if callbacks else 1)
        model.fit(
            problem.dataset(128, batch),
            epochs=2,
            verbose=0,
            callbacks=callbacks,
        )
        weights.append(model.get_weights())
    assert problem.deviation(weights[1], weights[0]) <= 1e-6


@pytest.mark.parametrize("scale", [0, -1, "static", True, float("nan")])
def test_bad_loss_scales_are_refused(scale):
    with pytest.raises(ValueError, match="Received: loss_scale="):
        tfdp.DistributedOptimizer(keras.optimizers.SGD(0.1), loss_scale=scale)


def test_a_used_optimizer_is_refused():
    inner = keras.optimizers.SGD(0.1)
    inner.build([keras.Variable([1.0])])
    with pytest.raises(ValueError, match="must not have been used"):
        tfdp.DistributedOptimizer(inner)


def test_a_learning_rate_that_is_a_function_is_kept(two_replicas):
    def make():
        return keras.optimizers.SGD(lambda: 0.05)

    assert_equals_one_device(fit(two_replicas, make()), make, to=1e-6)


def test_the_rate_can_be_set_as_with_any_optimizer(two_replicas):
    model = fit(two_replicas, keras.optimizers.SGD(0.05))
    model.optimizer.learning_rate = 0.25
    assert float(model.optimizer.inner_optimizer.learning_rate.numpy()) == 0.25


def test_configuration_comes_back():
    strategy = tfdp.MirroredStrategy(["CPU:0"])
    schedule = tfdp.WarmupSchedule(0.1, warmup_updates=7)
    with strategy.scope():
        optimizer = tfdp.DistributedOptimizer(
            keras.optimizers.SGD(schedule, momentum=0.5),
            accumulation_steps=3,
            loss_scale=128.0,
        )
    # Outside of the scope, as when a model is loaded to predict.
    copy = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert copy.get_config() == optimizer.get_config()
    assert copy.accumulation_steps == 3
    assert copy.loss_scale == 128.0


@pytest.mark.sampled
@pytest.mark.parametrize(
    "way",
    [
        tfdp.Synchronous(),
        tfdp.ShardedState(),
        tfdp.LocalSGD(3),
        tfdp.DiLoCo(keras.optimizers.SGD(0.7), 3),
        tfdp.Delayed(),
    ],
    ids=["synchronous", "sharded", "local", "DiLoCo", "delayed"],
)
def test_a_flush_says_nothing(two_replicas, way):
    # Of a function that it cannot rewrite, AutoGraph tells the user at length.
    heard = []
    handler = logging.Handler()
    handler.emit = lambda record: heard.append(record.getMessage())
    steps = 1 if isinstance(way, tfdp.Delayed) else 2
    with two_replicas.scope():
        model = problem.make_model()
        model.compile(
            tfdp.DistributedOptimizer(
                keras.optimizers.SGD(0.05), steps, synchronization=way
            ),
            "mse",
        )
    tf.get_logger().addHandler(handler)
    try:
        model.fit(
            problem.dataset(72, problem.GLOBAL_BATCH // 4),
            verbose=0,
            callbacks=[tfdp.callbacks.DataParallel()],
        )
    finally:
        tf.get_logger().removeHandler(handler)
    assert [each for each in heard if "AutoGraph" in each] == []
