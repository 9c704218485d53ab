"""What each replica has observed for itself becomes one again."""

import functools

import keras
import numpy as np
import problem
import pytest
import tensorflow as tf

import tfdp
from tfdp.strategy.batch_statistics import BatchStatistics

BATCH = 8
EPOCHS = 2


def make_model():
    """A model with a normalization of its own, and one in a nested model."""
    keras.utils.set_random_seed(1)
    inner = keras.Sequential(
        [keras.Input((4,)), keras.layers.BatchNormalization(momentum=0.5)]
    )
    return keras.Sequential(
        [
            keras.Input((8,)),
            keras.layers.BatchNormalization(momentum=0.9),
            keras.layers.Dense(4, "tanh"),
            inner,
            keras.layers.Dense(1),
        ]
    )


def moving(model):
    inner = model.layers[2].layers[0]
    return [
        variable
        for layer in (model.layers[0], inner)
        for variable in (layer.moving_mean, layer.moving_variance)
    ]


def compiled(strategy):
    with strategy.scope():
        model = make_model()
        optimizer = tfdp.DistributedOptimizer(keras.optimizers.SGD(0.0))
        model.compile(optimizer, "mse")
    return model


def by_replica(model, variables=None):
    strategy = model.distribute_strategy
    return [
        [
            local.numpy()
            for local in strategy.experimental_local_results(variable.value)
        ]
        for variable in variables or moving(model)
    ]


def is_one(model):
    return all(
        np.array_equal(local, first)
        for first, *others in by_replica(model)
        for local in others
    )


@functools.cache
def simulated(replicas):
    """Plain models, each given its part of every batch; means of epochs."""
    x, y = problem.arrays(32)
    x, y = (
        a.reshape(-1, replicas, BATCH // replicas, a.shape[-1]) for a in (x, y)
    )
    models = [make_model() for _ in range(replicas)]
    for model in models:
        model.compile(keras.optimizers.SGD(0.0), "mse", run_eagerly=True)
    drifted = []
    for _ in range(EPOCHS):
        for place, model in enumerate(models):
            for batch in zip(x[:, place], y[:, place], strict=True):
                model.train_on_batch(*batch)
        each = [[v.numpy() for v in moving(model)] for model in models]
        means = [np.mean(values, axis=0) for values in zip(*each, strict=True)]
        drifted.append((each, means))
        for model in models:
            for variable, mean in zip(moving(model), means, strict=True):
                variable.assign(mean)
    return drifted


def fit(model, *callbacks, **options):
    model.fit(
        problem.dataset(32, BATCH), verbose=0, callbacks=callbacks, **options
    )


class Watch(keras.callbacks.Callback):
    """Notes, where others look at the model, what they would see."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def note(self, *args, **kwargs):
        self.seen.append(by_replica(self.model))

    on_test_begin = note


class WatchEpochs(Watch):
    on_test_begin = keras.callbacks.Callback.on_test_begin
    on_epoch_end = Watch.note


def test_without_the_callback_replicas_drift_apart(two_replicas):
    model = compiled(two_replicas)
    fit(model, epochs=1)
    (each, _), *_ = simulated(2)
    for local, expected in zip(
        by_replica(model), zip(*each, strict=True), strict=True
    ):
        assert not np.allclose(*local, rtol=1e-3)
        np.testing.assert_allclose(local, expected, rtol=1e-5, atol=1e-7)


def test_each_epoch_ends_with_the_mean_over_replicas(strategy):
    model = compiled(strategy)
    watch = WatchEpochs()
    fit(model, tfdp.callbacks.DataParallel(), watch, epochs=EPOCHS)
    simulation = simulated(strategy.num_replicas_in_sync)
    assert len(watch.seen) == EPOCHS
    for seen, (_, means) in zip(watch.seen, simulation, strict=True):
        for local, mean in zip(seen, means, strict=True):
            assert len(local) == strategy.num_replicas_in_sync
            for value in local:
                np.testing.assert_allclose(value, mean, rtol=1e-5, atol=1e-7)
    assert is_one(model)


def test_validation_sees_the_mean_over_replicas(two_replicas):
    model = compiled(two_replicas)
    watch = Watch()
    fit(
        model,
        tfdp.callbacks.DataParallel(),
        watch,
        epochs=EPOCHS,
        validation_data=problem.dataset(16, BATCH),
    )
    assert len(watch.seen) == EPOCHS
    for seen, (_, means) in zip(watch.seen, simulated(2), strict=True):
        for local, mean in zip(seen, means, strict=True):
            expected = [mean, mean]
            np.testing.assert_allclose(local, expected, rtol=1e-5, atol=1e-7)


def test_a_checkpoint_holds_the_mean_over_replicas(two_replicas, tmp_path):
    path = tmp_path / "epoch-{epoch}.weights.h5"
    checkpoint = keras.callbacks.ModelCheckpoint(path, save_weights_only=True)
    model = compiled(two_replicas)
    fit(model, tfdp.callbacks.DataParallel(), checkpoint, epochs=EPOCHS)
    loaded = make_model()
    for epoch, (_, means) in enumerate(simulated(2), 1):
        loaded.load_weights(str(path).format(epoch=epoch))
        for variable, mean in zip(moving(loaded), means, strict=True):
            np.testing.assert_allclose(
                variable.numpy(), mean, rtol=1e-5, atol=1e-7
            )


class Keeping(keras.layers.Layer):
    """Keeps, as a layer of the user's may, a level and a count."""

    def build(self, shape):
        def weight(name, dtype):
            return self.add_weight(
                shape=(), dtype=dtype, trainable=False, name=name
            )

        self.level = weight("level", "float32")
        self.count = weight("count", "int32")

    def call(self, inputs):
        return inputs


def set_apart(strategy, variables):
    """Gives replica number `i` the value `i` of each variable."""

    def on_replica():
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        for variable in variables:
            value = tf.cast(replica, variable.dtype)
            variable.assign(tf.fill(variable.shape, value))

    tf.function(lambda: strategy.run(on_replica))()


def averaged(strategy, layer, names):
    """Values of a layer on each replica, set apart and then averaged."""
    with strategy.scope():
        keras.Sequential([keras.Input((1,)), layer := layer()])
        model = keras.Sequential([keras.Input((1,)), layer])
    variables = [getattr(layer, name) for name in names]
    set_apart(strategy, variables)
    BatchStatistics(model, strategy).average()
    return [
        [float(np.ravel(value)[0]) for value in local]
        for local in by_replica(model, variables)
    ]


STATISTICS = ("moving_mean", "moving_variance")


@pytest.mark.parametrize(
    "layer",
    [
        keras.layers.BatchNormalization,
        lambda: keras.layers.BatchNormalization(dtype="mixed_bfloat16"),
    ],
    ids=["float32", "mixed_bfloat16"],
)
def test_statistics_of_each_replica_are_averaged(two_replicas, layer):
    assert averaged(two_replicas, layer, STATISTICS) == [[0.5, 0.5]] * 2


@pytest.mark.parametrize(
    "layer",
    [
        lambda: keras.layers.BatchNormalization(synchronized=True),
        lambda: keras.layers.BatchNormalization(trainable=False),
    ],
    ids=["synchronized", "frozen"],
)
def test_statistics_that_agree_or_stay_are_left_alone(two_replicas, layer):
    assert averaged(two_replicas, layer, STATISTICS) == [[0.0, 1.0]] * 2


def test_the_state_of_a_users_layer_is_averaged_if_it_is_real(two_replicas):
    level, count = averaged(two_replicas, Keeping, ("level", "count"))
    assert level == [0.5, 0.5]
    assert count == [0.0, 1.0]


def test_nothing_else_is_averaged(two_replicas):
    with two_replicas.scope():
        model = keras.Sequential(
            [
                keras.Input((2,)),
                keras.layers.Dropout(0.5),
                keras.layers.Dense(1),
            ]
        )
    others = [*model.trainable_weights, model.layers[0].seed_generator.state]
    set_apart(two_replicas, others)
    BatchStatistics(model, two_replicas).average()
    for first, second in by_replica(model, others):
        assert not np.any(first)
        assert np.all(second == 1)


def test_state_that_tensorflow_aggregates_is_left_alone(two_replicas):
    class Counting(keras.layers.Layer):
        def build(self, shape):
            self.seen = self.add_weight(
                shape=(),
                initializer="zeros",
                trainable=False,
                aggregation="sum",
            )

        def call(self, x, training=None):
            if training:
                self.seen.value.assign_add(tf.cast(tf.shape(x)[0], tf.float32))
            return x

    with two_replicas.scope():
        model = keras.Sequential(
            [keras.Input((4,)), Counting(), keras.layers.Dense(1)]
        )
        model.compile(
            tfdp.DistributedOptimizer(keras.optimizers.SGD(0.0)), "mse"
        )
    model.fit(
        np.zeros((8, 4)),
        np.zeros((8, 1)),
        batch_size=8,
        epochs=2,
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel()],
    )
    assert float(model.layers[0].seen.numpy()) == 16.0
