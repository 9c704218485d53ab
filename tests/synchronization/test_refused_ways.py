"""What a way to synchronise cannot go with is refused, and says so."""

import keras
import local_updates
import numpy as np
import pytest
import tensorflow as tf

import tfdp


def outer():
    return keras.optimizers.SGD(0.7, momentum=0.9, nesterov=True)


WAYS = {
    "LocalSGD": lambda: tfdp.LocalSGD(2),
    "DiLoCo": lambda: tfdp.DiLoCo(outer(), 2),
    "Delayed": tfdp.Delayed,
}
APART = ("LocalSGD", "DiLoCo")


def optimizer(way, inner=None, **options):
    return tfdp.DistributedOptimizer(
        inner or keras.optimizers.SGD(0.1),
        synchronization=WAYS[way](),
        **options,
    )


@pytest.mark.parametrize(
    ("options", "ways"),
    [
        ({"loss_scale": "dynamic"}, list(WAYS)),
        ({"loss_scale": 8.0}, list(WAYS)),
        ({"compression": "bfloat16"}, APART),
        ({"accumulation_steps": 2}, ["Delayed"]),
    ],
    ids=str,
)
def test_options_are_refused_at_construction(two_replicas, options, ways):
    for way in ways:
        ((name, value),) = options.items()
        says = f"^{way} cannot go with .* Received: {name}={value!r}.$"
        with two_replicas.scope(), pytest.raises(ValueError, match=says):
            optimizer(way, **options)


@pytest.mark.parametrize("way", WAYS)
def test_optimizers_that_cannot_are_refused(two_replicas, way):
    inner = keras.optimizers.SGD(0.1, use_ema=True, ema_overwrite_frequency=2)
    with two_replicas.scope():
        with pytest.raises(ValueError, match="ema_overwrite_frequency=2"):
            optimizer(way, inner)
        with pytest.raises(ValueError, match="AdaScale"):
            optimizer(way, tfdp.AdaScale(0.1, base_batch=8))


@pytest.mark.parametrize("way", WAYS)
def test_a_strategy_that_counts_no_samples_is_refused(way):
    with pytest.raises(RuntimeError, match="a strategy that counts samples"):
        optimizer(way)


def fitted(strategy, way, loss="mse", layers=(), callbacks=()):
    with strategy.scope():
        model = keras.Sequential(
            [keras.Input((8,)), *layers, keras.layers.Dense(1)]
        )
        model.compile(optimizer(way), loss)
    x, y = local_updates.arrays(64)
    model.fit(
        x,
        y,
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel(), *callbacks],
    )


@pytest.mark.parametrize("way", WAYS)
def test_losses_that_are_added_are_refused(two_replicas, way):
    loss = tfdp.DistributedLoss(keras.losses.MeanSquaredError(reduction="sum"))
    with pytest.raises(ValueError, match="losses that are added"):
        fitted(two_replicas, way, loss)


@pytest.mark.parametrize("way", APART)
def test_losses_of_the_whole_batch_are_refused(two_replicas, way):
    def loss(true, predicted):
        return keras.ops.std(predicted - true, axis=-1)

    whole = tfdp.DistributedLoss(loss, over="batch")
    with pytest.raises(ValueError, match="a loss of the whole batch"):
        fitted(two_replicas, way, whole)


@pytest.mark.parametrize("way", APART)
def test_layers_that_mix_gradients_are_refused(two_replicas, way):
    layer = keras.layers.BatchNormalization(synchronized=True)
    with pytest.raises(ValueError, match="gradients reach other replicas"):
        fitted(two_replicas, way, layers=[layer])


@pytest.mark.parametrize("way", WAYS)
def test_a_monitor_of_noise_is_refused(two_replicas, way):
    monitor = tfdp.callbacks.NoiseScaleMonitor()
    with pytest.raises(ValueError, match="NoiseScaleMonitor"):
        fitted(two_replicas, way, callbacks=[monitor])


@pytest.mark.parametrize("way", APART)
def test_no_model_is_saved_in_the_middle_of_a_round(
    two_replicas, way, tmp_path
):
    with two_replicas.scope():
        model = local_updates.make_model()
        model.compile(optimizer(way), "mse")
    model.train_on_batch(*local_updates.arrays(64))
    with pytest.raises(RuntimeError, match="all that its replicas have seen"):
        model.save(tmp_path / "model.keras")
    model.optimizer.flush()
    model.save(tmp_path / "model.keras")
    parts = two_replicas.experimental_local_results(model.weights[0].value)
    np.testing.assert_array_equal(*(part.numpy() for part in parts))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("weights_only", [True, False])
def test_checkpoints_by_steps_are_refused_at_the_begin(
    two_replicas, way, weights_only, tmp_path
):
    end = ".weights.h5" if weights_only else ".keras"
    writer = keras.callbacks.ModelCheckpoint(
        tmp_path / f"model{end}", save_freq=3, save_weights_only=weights_only
    )
    with pytest.raises(RuntimeError, match="save_freq='epoch'"):
        fitted(two_replicas, way, callbacks=[writer])


def test_arguments_are_checked():
    with pytest.raises(ValueError, match="`sync_every`"):
        tfdp.LocalSGD(0)
    with pytest.raises(TypeError, match="`sync_every`"):
        tfdp.LocalSGD(1.5)
    with pytest.raises(ValueError, match="`start`"):
        tfdp.LocalSGD(2, start=-1)
    with pytest.raises(ValueError, match="`buffers` must be 'maintain'"):
        tfdp.LocalSGD(2, buffers="keep")
    with pytest.raises(TypeError, match="`outer_optimizer` must be"):
        tfdp.DiLoCo("sgd", 2)
    with pytest.raises(ValueError, match="must not average weights"):
        tfdp.DiLoCo(keras.optimizers.SGD(0.1, use_ema=True), 2)
    with pytest.raises(ValueError, match="must not look at the gradients"):
        tfdp.DiLoCo(tfdp.AdaScale(0.1, base_batch=4), 2)
    with pytest.raises(TypeError, match="must be a way to synchronise"):
        tfdp.DistributedOptimizer(
            keras.optimizers.SGD(0.1), synchronization="local"
        )


def test_one_way_serves_several_optimizers(two_replicas):
    way = tfdp.DiLoCo(outer(), 2)
    with two_replicas.scope():
        several = [
            tfdp.DistributedOptimizer(
                keras.optimizers.SGD(0.1), synchronization=way
            )
            for _ in range(2)
        ]
        for each in several:
            each.build([keras.Variable([0.0])])
    one, other = (each.synchronized_by for each in several)
    assert one is not other
    assert one.outer_optimizer is not other.outer_optimizer


@pytest.mark.parametrize("way", WAYS)
def test_gradients_of_unknown_weight_are_refused(two_replicas, way):
    with two_replicas.scope():
        variable = keras.Variable([0.0])
        unweighed = optimizer(way)
        unweighed.build([variable])

    def step():
        unweighed.apply([tf.constant([1.0])], [variable])

    with (
        two_replicas.scope(),
        pytest.raises(RuntimeError, match=f"synchronization={way} needs"),
    ):
        two_replicas.extended.call_for_each_replica(step)
