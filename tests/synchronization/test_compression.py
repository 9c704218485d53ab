"""Compressed gradients: rounded once on their way, and nothing else."""

import keras
import numpy as np
import pytest
import settings
import tensorflow as tf

import tfdp
from tfdp.synchronization.compression import compressed, decompressed

FORMATS = {"bfloat16": 2**-8, "float16": 2**-11}


def trained(setting, **options):
    keras.config.set_dtype_policy(setting.precision)
    strategy = tfdp.MirroredStrategy(
        [f"CPU:{i}" for i in range(setting.replicas)]
    )
    with strategy.scope():
        model = settings.make_model(setting)
        loss, _ = settings.make_loss(setting)
        optimizer = tfdp.DistributedOptimizer(
            settings.make_optimizer(setting), setting.steps, **options
        )
        model.compile(optimizer, loss)
    model.fit(
        settings.dataset(setting, settings.GLOBAL_BATCH // setting.steps),
        epochs=settings.EPOCHS,
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel()],
        **settings.fit_arguments(setting),
    )
    return model.get_weights(), optimizer


@pytest.mark.sampled
@pytest.mark.parametrize("compression", FORMATS)
@pytest.mark.parametrize(
    ("model", "replicas", "steps"),
    [("dense", 2, 1), ("dense", 4, 2), ("embedding", 2, 1), ("dense", 1, 1)],
)
def test_training_stays_close_to_one_device(
    compression, model, replicas, steps
):
    setting = settings.Setting(
        "SGD", "plain", model, "mean", replicas, steps, 240, "float32"
    )
    weights, _ = trained(setting, compression=compression)
    expected, *_ = settings.oracle_of(setting)
    deviation = settings.deviation(weights, expected)
    if replicas == 1:
        # Nothing travels.
        assert deviation <= setting.tolerance
    else:
        assert 1e-7 < deviation <= 5e-3


@pytest.mark.sampled
@pytest.mark.parametrize("compression", FORMATS)
def test_scaled_losses_do_not_overflow_on_the_way(compression):
    setting = settings.Setting(
        "SGD", "plain", "dense", "mean", 2, 2, 240, "float32"
    )
    weights, optimizer = trained(
        setting, compression=compression, loss_scale=2.0**20
    )
    expected, *_ = settings.oracle_of(setting)
    assert int(optimizer.skipped_updates.numpy()) == 0
    assert settings.deviation(weights, expected) <= 5e-3


@pytest.mark.parametrize(
    ("compression", "skipped"), [("bfloat16", 0), ("float16", 1)]
)
def test_an_update_beyond_the_range_is_skipped(compression, skipped):
    strategy = tfdp.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        optimizer = tfdp.DistributedOptimizer(
            keras.optimizers.SGD(1e-6), compression=compression
        )
        model.compile(optimizer, lambda y, y_pred: 1e6 * y_pred)
    before = model.get_weights()
    model.fit(np.ones((4, 1)), np.ones((4, 1)), batch_size=4, verbose=0)
    assert int(optimizer.skipped_updates.numpy()) == skipped
    changed = [
        not np.array_equal(a, b)
        for a, b in zip(before, model.get_weights(), strict=True)
    ]
    assert changed == [not skipped] * 2


def moved(gradient, replicas=2, state=None, **options):
    """How far an update moves weights, and the optimizer."""
    strategy = tfdp.MirroredStrategy([f"CPU:{i}" for i in range(replicas)])
    with strategy.scope():
        model = keras.Sequential(
            [keras.Input((1,)), keras.layers.Dense(1, use_bias=False)]
        )
        optimizer = tfdp.DistributedOptimizer(
            keras.optimizers.SGD(1.0 / gradient), **options
        )
        model.compile(optimizer, lambda y, y_pred: gradient * y_pred)
        optimizer.build(model.trainable_variables)
    if state:
        optimizer.load_own_variables(state)
    before = model.get_weights()[0]
    model.fit(np.ones((4, 1)), np.ones((4, 1)), batch_size=4, verbose=0)
    state = {}
    optimizer.save_own_variables(state)
    return float((before - model.get_weights()[0]).item()), state


@pytest.mark.sampled
@pytest.mark.parametrize("compression", [None, *FORMATS])
def test_a_dynamic_scale_keeps_small_gradients(compression):
    distance, _ = moved(2e-8, compression=compression, loss_scale="dynamic")
    assert distance == pytest.approx(1, rel=5e-3)


def test_gradients_below_the_range_are_lost_without_a_scale():
    assert moved(2e-8, compression="float16")[0] == 0
    assert moved(2e-8, compression="bfloat16")[0] == pytest.approx(1, rel=5e-3)


@pytest.mark.sampled
@pytest.mark.parametrize("compression", [None, *FORMATS])
def test_the_scale_of_a_saved_state_is_not_taken_where_there_is_none(
    compression,
):
    _, state = moved(0.1, loss_scale="dynamic")
    assert max(float(np.max(value)) for value in state.values()) >= 2.0**15
    state = {name: np.array(value) for name, value in state.items()}

    class Store(dict):
        def __getitem__(self, name):
            return super().__getitem__(name)[...]

    distance, _ = moved(0.1, compression=compression, state=Store(state))
    assert distance == pytest.approx(1, rel=5e-3)


def test_nothing_is_judged_where_nothing_travels():
    distance, _ = moved(1e6, replicas=1, compression="float16")
    assert distance == pytest.approx(1, rel=1e-3)


def test_gpus_of_one_process_cannot_add_bfloat16(monkeypatch):
    strategy = tfdp.MirroredStrategy(["CPU:0", "CPU:1"])
    kind = type(strategy.extended)
    devices = ("/job:a/device:GPU:0", "/job:a/device:GPU:1")
    monkeypatch.setattr(kind, "worker_devices", devices)
    with strategy.scope():
        tfdp.DistributedOptimizer(keras.optimizers.SGD(), compression="float16")
        with pytest.raises(ValueError, match="must exchange gradients in anot"):
            tfdp.DistributedOptimizer(
                keras.optimizers.SGD(), compression="bfloat16"
            )


@pytest.mark.parametrize(("compression", "precision"), FORMATS.items())
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values_are_rounded_once(compression, precision, dtype):
    values = tf.random.stateless_normal((1000,), (1, 2), dtype=dtype)
    slices = tf.IndexedSlices(values[:, None], tf.range(1000))
    for gradient in (values, slices):
        sent = compressed(gradient, tf.constant(0.5), compression)
        assert sent.dtype.size == 2
        back = decompressed(sent, gradient.dtype, compression)
        assert back.dtype == dtype
        back = getattr(back, "values", back)
        error = tf.reshape(back, [-1]) / (values / 2) - 1
        assert 0 < float(tf.reduce_max(tf.abs(error))) <= precision


def test_it_is_saved_with_the_configuration():
    with tfdp.MirroredStrategy(["CPU:0"]).scope():
        optimizer = tfdp.DistributedOptimizer(
            keras.optimizers.SGD(), compression="bfloat16"
        )
    config = optimizer.get_config()
    assert config["compression"] == "bfloat16"
    again = tfdp.DistributedOptimizer.from_config(config)
    assert again.compression == "bfloat16"


@pytest.mark.parametrize("compression", ["fp16", 16, True, "", ["float16"]])
def test_an_unknown_format_is_refused(compression):
    with pytest.raises(ValueError, match="`compression` must be") as error:
        tfdp.DistributedOptimizer(
            keras.optimizers.SGD(), compression=compression
        )
    assert f"compression={compression!r}" in str(error.value)
