"""Rounds and late gradients, where layers are frozen or weights set between."""

import keras
import local_updates
import numpy as np
import pytest
import tensorflow as tf
from alike import check_alike
from grids import later

import tfdp


def outer(rate=0.5, momentum=0.9):
    return keras.optimizers.SGD(rate, momentum=momentum, nesterov=True)


WAYS = {
    "local": lambda: tfdp.LocalSGD(3),
    "DiLoCo": lambda: tfdp.DiLoCo(outer(), 3),
    "delayed": tfdp.Delayed,
}


def compiled(strategy, way, rate=0.1):
    with strategy.scope():
        model = local_updates.make_model(constraint=None)
        optimizer = tfdp.DistributedOptimizer(
            keras.optimizers.SGD(rate), synchronization=way
        )
        model.compile(optimizer, "mse")
    return model


def fit(model, *callbacks, epochs=1):
    data = tf.data.Dataset.from_tensor_slices(local_updates.arrays(80))
    model.fit(
        data.batch(16),
        epochs=epochs,
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel(), *callbacks],
    )


def set_trainable(model, is_trainable):
    model.layers[0].trainable = is_trainable
    with model.distribute_strategy.scope():
        model.compile(model.optimizer, "mse")


@pytest.mark.parametrize("way", later(WAYS, ["DiLoCo"]))
def test_frozen_layers_stay_and_thawed_ones_meet_again(two_replicas, way):
    model = compiled(two_replicas, WAYS[way]())
    fit(model)
    frozen = model.layers[0].get_weights()
    moved = model.layers[1].get_weights()
    set_trainable(model, False)
    fit(model)
    check_alike(model)
    for value, expected in zip(
        model.layers[0].get_weights(), frozen, strict=True
    ):
        np.testing.assert_array_equal(value, expected)
    assert np.any(model.layers[1].get_weights()[0] != moved[0])
    set_trainable(model, True)
    fit(model)
    check_alike(model)
    assert np.any(model.layers[0].get_weights()[0] != frozen[0])


@pytest.mark.parametrize("way", later(["local", "DiLoCo"], ["DiLoCo"]))
def test_layers_frozen_from_the_begin_meet_once_thawed(two_replicas, way):
    model = compiled(two_replicas, WAYS[way]())
    with two_replicas.scope():
        model.optimizer.build(model.trainable_variables)
    set_trainable(model, False)
    fit(model)
    set_trainable(model, True)
    fit(model)
    check_alike(model)


@pytest.mark.sampled
@pytest.mark.parametrize("when", ["between", "at an epoch"])
def test_a_round_begins_with_the_weights_that_are_there(two_replicas, when):
    # Nothing moves but what was set: no rate inside, no momentum outside.
    model = compiled(two_replicas, tfdp.DiLoCo(outer(momentum=0.0), 2), 0.0)
    given = [np.ones_like(w) for w in model.get_weights()]

    def set_weights(epoch, logs=None):
        if epoch == 1:
            model.set_weights(given)

    fit(model)
    if when == "between":
        model.set_weights(given)
        fit(model)
    else:
        setting = keras.callbacks.LambdaCallback(on_epoch_begin=set_weights)
        fit(model, setting, epochs=3)
    for value in model.get_weights():
        np.testing.assert_array_equal(value, np.ones_like(value))


@pytest.mark.sampled
@pytest.mark.parametrize("way", WAYS)
def test_updates_of_other_variables_do_not_share_a_round(two_replicas, way):
    with two_replicas.scope():
        variables = [keras.Variable([0.0]), keras.Variable([0.0])]
        optimizer = tfdp.DistributedOptimizer(
            keras.optimizers.SGD(1.0), synchronization=WAYS[way]()
        )
        optimizer.build(variables)

    @tf.function
    def step(x):
        for each in variables:
            two_replicas.run(
                lambda x, each=each: optimizer.apply([x], [each]), args=(x,)
            )

    with pytest.raises(
        tf.errors.InvalidArgumentError, match="of the same variables"
    ):
        step(tf.constant([1.0]))


@pytest.mark.parametrize("way", [*WAYS, "sharded", "default"])
def test_a_variable_that_it_was_not_built_for_is_named(two_replicas, way):
    make = {**WAYS, "sharded": tfdp.ShardedState, "default": tfdp.Synchronous}
    with two_replicas.scope():
        optimizer = tfdp.DistributedOptimizer(
            keras.optimizers.SGD(1.0), synchronization=make[way]()
        )
        stranger = keras.Variable([0.0], name="stranger")
        optimizer.build([])
        with pytest.raises(ValueError, match="Received: 'stranger', which"):
            two_replicas.run(
                lambda x: optimizer.apply([x], [stranger]),
                args=(tf.constant([1.0]),),
            )


@pytest.mark.sampled
@pytest.mark.parametrize("way", WAYS)
def test_without_the_callback_open_rounds_are_told_of(two_replicas, way):
    model = compiled(two_replicas, WAYS[way]())
    with pytest.warns(UserWarning, match="without `callbacks.DataParallel`"):
        model.fit(*local_updates.arrays(64), batch_size=32, verbose=0)


@pytest.mark.long
def test_a_checkpoint_holds_the_outer_optimizer(two_replicas, tmp_path):
    whole, restored = (
        compiled(two_replicas, WAYS["DiLoCo"]()) for _ in range(2)
    )
    fit(whole)
    path = tf.train.Checkpoint(model=whole).save(tmp_path / "state")
    with two_replicas.scope():
        restored.optimizer.build(restored.trainable_variables)
    tf.train.Checkpoint(model=restored).restore(
        path
    ).assert_existing_objects_matched()
    for model in (whole, restored):
        fit(model)
    for value, expected in zip(
        restored.get_weights(), whole.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(value, expected)
