"""Which private name of Keras moved, of those that `keras_models` uses."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from contracts import contract

from tfdp.upstream.keras import keras_models


@contract(
    "keras.random.SeedGenerator.__init__",
    serves="random layers draw the same numbers on every replica",
)
def test_seed_generator_makes_its_state_in_its_constructor():
    found = []

    def creator(next_creator, **arguments):
        found.append(keras_models.seed_generator_under_construction())
        return next_creator(**arguments)

    with tf.variable_creator_scope(creator):
        generator = keras.random.SeedGenerator(1)
        layer = keras.layers.Dropout(0.5)
        keras.Variable(1.0)
    assert found == [generator, layer.seed_generator, None]


@contract(
    "_non_trainable_variables",
    serves="the statistics of BatchNormalization are not averaged over "
    "replicas, or the seeds of random layers are",
)
def test_layer_keeps_statistics_apart_from_seeds_and_metrics():
    class Counting(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.seed_generator = keras.random.SeedGenerator(1)
            self.mean = keras.metrics.Mean()

    normalization = keras.layers.BatchNormalization()
    normalization.build((None, 2))
    held = normalization._non_trainable_variables
    assert [v.name for v in held] == ["moving_mean", "moving_variance"]
    found = keras_models.own_non_trainable_weights(normalization)
    assert [id(v) for v in found] == [id(v) for v in held]
    counting = Counting()
    (seed,) = counting.non_trainable_variables
    assert seed is counting.seed_generator.state
    assert counting.metrics_variables
    assert keras_models.own_non_trainable_weights(counting) == []


@contract(
    "_seed_generators",
    serves="random layers that a step builds draw the same numbers on every "
    "replica",
)
def test_layers_know_their_seed_generators():
    class Holding(keras.Model):
        def __init__(self):
            super().__init__()
            self.generators = [keras.random.SeedGenerator(1)]
            self.dropout = keras.layers.Dropout(0.5)

    model = Holding()
    found = keras_models.seed_generators(model)
    assert found == [*model.generators, model.dropout.seed_generator]


@contract("_symbolic_build", serves="an audit cannot build a model")
def test_symbolic_build_makes_model_and_metrics():
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", ["mse"], metrics=["mae"])
    keras_models.build(model, (tf.ones((2, 3)), tf.ones((2, 1)), None))
    assert model.built
    assert model.metrics_variables
    np.testing.assert_array_equal(model.metrics[0].result(), 0)


@contract(
    "_call_has_training_arg",
    serves="an audit does not know how to call a model",
)
def test_calls_with_and_without_training_are_told_apart():
    class Plain(keras.Model):
        def call(self, x):
            return x

    class Dropping(keras.Model):
        def call(self, x, training=True):
            return x * 0 if training else x

    for model in (Plain(), Dropping()):
        np.testing.assert_array_equal(
            keras_models.outputs_of(model, tf.ones(2)), 1
        )


@contract(
    "_flatten_layers",
    serves="tfdp overlooks layers inside of layers, such as a "
    "BatchNormalization in a nested model",
)
def test_layers_inside_of_layers_are_found():
    inner = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    dense = keras.layers.Dense(2)
    wrapped = keras.layers.TimeDistributed(inner)
    model = keras.Sequential([keras.Input((3, 2)), dense, wrapped])
    found = list(model._flatten_layers(include_self=False, recursive=True))
    assert all(each in found for each in (dense, wrapped, inner, *inner.layers))
    assert model not in found
    assert keras_models.all_layers(model) == found


@contract(
    "_compile_loss",
    "_compile_metrics",
    "_flatten_layers",
    serves="models with a train_step of their own are built too late",
)
def test_a_model_is_built_with_what_it_was_compiled_with():
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse", metrics=["mae"])
    assert not keras_models.has_variables(model)
    model.build((None, 3))
    assert keras_models.has_variables(model)
    assert not keras_models.is_built(model)
    keras_models.build(model, (tf.ones((2, 3)), tf.ones((2, 1)), None))
    assert keras_models.is_built(model)


@contract(
    "CompileLoss",
    "CompileLoss._user_loss",
    "CompileLoss._user_loss_weights",
    "CompileLoss.reduction",
    "CompileLoss.output_names",
    serves="an audit by the chief alone makes variables, for which the other "
    "workers would have to wait",
)
def test_another_copy_of_a_loss_is_built_and_gone():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    compiled = model._compile_loss
    with keras_models.loss_of_its_own(model):
        assert model._compile_loss is not compiled
        loss = model.compute_loss(None, tf.ones((2, 1)), tf.zeros((2, 1)))
    assert float(loss) == 1
    assert model._compile_loss is compiled
    assert not compiled.built


@contract(
    "_compute_moments_sync",
    serves="a made-up row counts in synchronized statistics",
)
def test_synchronized_statistics_are_reduced_in_a_function_of_their_own():
    strategy = tf.distribute.MirroredStrategy(
        ["CPU:0", "CPU:1"],
        cross_device_ops=tf.distribute.ReductionToOneDevice(),
    )
    with strategy.scope():
        layer = keras.layers.BatchNormalization(momentum=0.0, synchronized=True)
        layer.build((None, 1))

    def step():
        place = tf.distribute.get_replica_context().replica_id_in_sync_group
        with keras_models.weighing_statistics(tf.cast(place, tf.float32)):
            rows = tf.cast(place, tf.float32) + [[1.0], [5.0]]
            layer(rows, training=True)

    tf.function(lambda: strategy.run(step))()
    # The mean of the second replica's 2 and 6.
    assert layer.moving_mean.numpy() == pytest.approx(4.0)
    assert layer.moving_variance.numpy() == pytest.approx(4.0)


@contract(
    "_compile_metrics",
    "_user_metrics",
    "_user_weighted_metrics",
    serves="metrics of a whole batch are not found",
)
def test_what_compile_is_given_as_metrics_is_found():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    assert keras_models.compiled_metrics(model) == []
    auc = keras.metrics.AUC()
    model.compile("sgd", "mse", metrics=["mae", abs], weighted_metrics=[auc])
    assert keras_models.compiled_metrics(model) == ["mae", abs, auc]


@contract(
    "get_global_attribute",
    "global_seed_generator",
    serves="`keras.random` without a seed draws other numbers after a resume",
)
def test_the_global_seed_generator_is_what_keras_draws_from():
    keras.utils.set_random_seed(3)
    assert keras_models.global_seed_generator() is None
    keras.random.uniform(())
    generator = keras_models.global_seed_generator()
    assert generator is keras_models.global_seed_generator(make=True)
    before = generator.state.numpy().tolist()
    first = float(keras.random.uniform(()))
    assert generator.state.numpy().tolist() != before
    generator.state.assign(before)
    assert float(keras.random.uniform(())) == first


@contract(
    "_value",
    "_distribute_strategy",
    serves="a train_step cannot be tried in an audit",
)
def test_variables_hold_copies_and_models_another_strategy_for_a_while():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    kernel, before = model.weights[0], np.array(model.weights[0])
    own, strategy = kernel.value, tf.distribute.OneDeviceStrategy("CPU:0")
    with keras_models.with_copies(model, [kernel, kernel]) as copies:
        (copy,) = copies
        with tf.GradientTape() as tape:
            loss = keras.ops.sum(model(np.ones((1, 2))))
        np.testing.assert_array_equal(tape.gradient(loss, kernel), [[1], [1]])
        kernel.assign(np.zeros((2, 1)))
        np.testing.assert_array_equal(copy, 0)
        with keras_models.lent_to(model, strategy):
            assert model.distribute_strategy is strategy
    assert model.distribute_strategy is not strategy
    assert kernel.value is own
    np.testing.assert_array_equal(kernel, before)
