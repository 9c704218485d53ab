"""The noise scale in the logs, and in words."""

import keras
import problem
import pytest
import sklearn.datasets
import tensorflow as tf

import tfdp


def make(strategy, steps=2, **arguments):
    with strategy.scope():
        model = problem.make_model()
        optimizer = tfdp.DistributedOptimizer(
            keras.optimizers.SGD(0.01), accumulation_steps=steps, **arguments
        )
        model.compile(optimizer, "mse")
    return model


def fit(model, monitor, steps=2, **options):
    options = {"verbose": 0, "epochs": 2, **options}
    return model.fit(
        problem.dataset(256, problem.GLOBAL_BATCH // steps),
        callbacks=[tfdp.callbacks.DataParallel(), monitor],
        **options,
    ).history


def train(model, steps):
    model.fit(
        problem.dataset(256, problem.GLOBAL_BATCH // steps),
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel()],
    )


@pytest.mark.parametrize("steps", [1, 2])
def test_it_is_logged_by_epoch(two_replicas, steps):
    monitor = tfdp.callbacks.NoiseScaleMonitor(verbose=0)
    assert monitor.noise_scale is None
    history = fit(make(two_replicas, steps), monitor, steps)
    found = monitor.noise_scale
    assert len(history["noise_scale"]) == 2
    assert history["noise_scale"][-1] == found.samples > 0
    assert history["gradient_noise"][-1] == found.noise
    assert history["gradient_signal"][-1] == found.signal
    assert found.global_batch == problem.GLOBAL_BATCH
    assert found.accumulation_steps == steps


def test_it_does_not_change_what_is_learned(two_replicas):
    model, plain = make(two_replicas), make(two_replicas)
    fit(model, tfdp.callbacks.NoiseScaleMonitor(verbose=0))
    plain.fit(
        problem.dataset(256, problem.GLOBAL_BATCH // 2),
        epochs=2,
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel()],
    )
    deviation = problem.deviation(model.get_weights(), plain.get_weights())
    assert deviation <= 1e-6


def test_a_model_that_was_trained_without_is_measured(two_replicas):
    model = make(two_replicas)
    data = problem.dataset(256, 32)
    model.fit(data, verbose=0, callbacks=[tfdp.callbacks.DataParallel()])
    assert "unknown" in str(model.optimizer.noise_scale)
    monitor = tfdp.callbacks.NoiseScaleMonitor(verbose=0)
    assert fit(model, monitor)["noise_scale"][0] > 0
    traced = model.train_function
    fit(model, monitor)
    assert model.train_function is traced


def test_a_loss_scale_does_not_change_it(two_replicas):
    found = [
        fit(
            make(two_replicas, **arguments),
            tfdp.callbacks.NoiseScaleMonitor(verbose=0),
        )["noise_scale"]
        for arguments in ({}, {"loss_scale": 2.0**12})
    ]
    assert found[0] == pytest.approx(found[1], rel=1e-3)


def test_the_short_last_cycle_is_measured_too(two_replicas):
    model = make(two_replicas, steps=4)
    monitor = tfdp.callbacks.NoiseScaleMonitor(smoothing=0, verbose=0)
    # Micro-batches of 32: a cycle of four, and a flush of four others.
    model.fit(
        problem.dataset(224, 32),
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel(), monitor],
    )
    assert monitor.noise_scale.global_batch == 96


def test_it_is_said_in_words_by_the_chief(two_replicas, capsys):
    fit(make(two_replicas), tfdp.callbacks.NoiseScaleMonitor())
    said = capsys.readouterr().out
    assert said.startswith("tfdp: noise scale ")
    assert "times the mean global batch of 64" in said
    assert "accumulation_steps=2" in said
    fit(make(two_replicas), tfdp.callbacks.NoiseScaleMonitor(verbose=0))
    assert not capsys.readouterr().out


@pytest.mark.long
def test_it_rises_while_digits_are_learned(two_replicas):
    digits = sklearn.datasets.load_digits()
    x, y = digits.data.astype("float32") / 16, digits.target
    with two_replicas.scope():
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [
                keras.Input((64,)),
                keras.layers.Dense(64, "relu"),
                keras.layers.Dense(10),
            ]
        )
        model.compile(
            tfdp.DistributedOptimizer(keras.optimizers.SGD(0.1, momentum=0.9)),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
    monitor = tfdp.callbacks.NoiseScaleMonitor(smoothing=0.95, verbose=0)
    history = model.fit(
        x,
        y,
        batch_size=64,
        epochs=12,
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel(), monitor],
    ).history["noise_scale"]
    assert min(history[6:]) > 3 * history[0]


def test_what_it_cannot_measure_is_refused(two_replicas):
    monitor = tfdp.callbacks.NoiseScaleMonitor()
    model = problem.make_model()
    model.compile("sgd", "mse")
    with pytest.raises(RuntimeError, match=r"compares .* Received: SGD"):
        model.fit(problem.dataset(16, 8), verbose=0, callbacks=[monitor])
    alone = make(tfdp.MirroredStrategy(["CPU:0"]), steps=1)
    with pytest.raises(RuntimeError, match="at least two per update"):
        fit(alone, monitor, steps=1)
    train(alone, 1)
    model.compile(tfdp.DistributedOptimizer(keras.optimizers.SGD()), "mse")
    with pytest.raises(RuntimeError, match="strategy that counts samples"):
        model.fit(problem.dataset(16, 8), verbose=0, callbacks=[monitor])
    with pytest.raises(ValueError, match=r"range \[0, 1\), where 0"):
        tfdp.callbacks.NoiseScaleMonitor(smoothing=1)
    for smoothing in (None, "0.9", True):
        with pytest.raises(TypeError, match="must be a number in the range"):
            tfdp.callbacks.NoiseScaleMonitor(smoothing=smoothing)


def test_a_model_that_cannot_be_measured_still_trains(two_replicas):
    with two_replicas.scope():
        model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1)])
        model.compile(
            tfdp.DistributedOptimizer(keras.optimizers.SGD(1e-4)),
            tfdp.DistributedLoss(
                keras.losses.MeanSquaredError(reduction="sum")
            ),
        )
    with pytest.raises(ValueError, match="Received: a loss that is a sum"):
        fit(model, tfdp.callbacks.NoiseScaleMonitor())
    train(model, 2)


def test_a_cycle_that_began_before_is_not_measured(two_replicas, tmp_path):
    model = make(two_replicas, steps=4)
    monitor = tfdp.callbacks.NoiseScaleMonitor(smoothing=0, verbose=0)
    begun = []

    class Begin(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 1:
                model.save(tmp_path / "begun.keras")
                begun.append(int(model.optimizer.micro_step.numpy()))

    edges = tfdp.callbacks.DataParallel()
    model.fit(problem.dataset(64, 16), verbose=0, callbacks=[edges, Begin()])
    assert begun == [2]
    with two_replicas.scope():
        loaded = keras.models.load_model(tmp_path / "begun.keras")
    loaded.fit(problem.dataset(32, 16), verbose=0, callbacks=[edges, monitor])
    assert loaded.optimizer.iterations.numpy() == (
        model.optimizer.iterations.numpy()
    )
    assert "unknown" in str(monitor.noise_scale)


def test_norms_that_are_not_finite_are_left_out(two_replicas):
    with two_replicas.scope():
        model = problem.make_model()
        # The gradient is finite, and its square is not.
        optimizer = keras.optimizers.SGD(0.01, clipvalue=0.01)
        model.compile(tfdp.DistributedOptimizer(optimizer), "mse")
    x, y = problem.arrays(64)
    y[20] = 1e22
    monitor = tfdp.callbacks.NoiseScaleMonitor(smoothing=0.9, verbose=0)
    model.fit(
        tf.data.Dataset.from_tensor_slices((x, y)).batch(16),
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel(), monitor],
    )
    assert 0 < monitor.noise_scale.samples < 1e6
