"""A callback that compiles in the middle of a fit."""

import contextlib
import json
import time
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfdp

# Callbacks of these tests count, and have no `get_state`.
pytestmark = pytest.mark.filterwarnings("ignore:What callbacks remember")

X = np.random.default_rng(0).normal(size=(50, 4)).astype("float32")
Y = np.tanh(X.sum(1, keepdims=True)).astype("float32")
SGD = keras.optimizers.SGD


def dp():
    return tfdp.callbacks.DataParallel()


class Thaw(keras.callbacks.Callback):
    """Trains all layers, by another optimizer, from some step on."""

    def __init__(self, make_optimizer, hook="on_epoch_begin", when=1):
        super().__init__()
        self.make_optimizer, self.when = make_optimizer, when
        setattr(self, hook, self.look)

    def look(self, index, logs=None):
        if index == self.when and self.make_optimizer:
            make, self.make_optimizer = self.make_optimizer, None
            with contextlib.suppress(AttributeError):
                self.before = self.model.optimizer
            scope = getattr(self.model, "_distribute_strategy", None)
            with scope.scope() if scope else contextlib.nullcontext():
                self.model.layers[0].trainable = True
                self.model.compile(make(SGD(0.1, momentum=0.9)), "mse")
                self.model.make_train_function()


def model_in(scope, optimizer, *between):
    keras.utils.set_random_seed(1)
    with scope:
        model = keras.Sequential(
            [
                keras.Input((4,)),
                keras.layers.Dense(4, "tanh"),
                *[layer() for layer in between],
                keras.layers.Dense(1),
            ]
        )
        model.layers[0].trainable = False
        model.compile(optimizer(SGD(0.1)), "mse")
    return model


def on_one_device(batch=32, **thaw):
    model = model_in(contextlib.nullcontext(), lambda inner: inner)
    fit(model, batch, [Thaw(lambda inner: inner, **thaw)])
    return model


def fit(model, batch, callbacks):
    model.fit(
        X,
        Y,
        batch_size=batch,
        epochs=3,
        shuffle=False,
        verbose=0,
        callbacks=callbacks,
    )


def accumulating(inner):
    return tfdp.DistributedOptimizer(inner, accumulation_steps=4)


def check_equal(model, other):
    for ours, theirs in zip(
        model.get_weights(), other.get_weights(), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_the_new_optimizer_is_kept_as_the_old_one_was(strategy):
    model = model_in(strategy.scope(), accumulating)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        fit(model, 8, [dp(), Thaw(accumulating)])
    expected = on_one_device()
    check_equal(model, expected)
    assert int(model.optimizer.iterations.numpy()) == 4
    assert not model.optimizer.is_mid_cycle


def test_the_cycle_of_the_old_optimizer_is_used(two_replicas):
    """After the sixth micro-batch: four made an update, two are left."""
    model = model_in(two_replicas.scope(), accumulating)
    thaw = Thaw(accumulating, "on_train_batch_end", when=5)
    fit(model, 8, [dp(), thaw])
    assert int(thaw.before.iterations.numpy()) == 2
    assert not thaw.before.is_mid_cycle
    # By hand: one device that is given what the cycles were given.
    expected = model_in(contextlib.nullcontext(), lambda inner: inner)
    expected.train_on_batch(X[:32], Y[:32])
    expected.train_on_batch(X[32:48], Y[32:48])
    expected.layers[0].trainable = True
    expected.compile(SGD(0.1, momentum=0.9), "mse")
    for rows in (slice(48, 50), *[slice(0, 32), slice(32, 50)] * 2):
        expected.train_on_batch(X[rows], Y[rows])
    check_equal(model, expected)


def test_what_trains_next_is_audited(two_replicas):
    model = model_in(two_replicas.scope(), accumulating)

    def unsound(inner):
        return inner

    with pytest.warns(UserWarning, match="Gradients must be weighed by samp"):
        fit(model, 8, [dp(), Thaw(unsound)])


@pytest.mark.parametrize("thaws", [True, False])
def test_statistics_of_a_layer_that_thaws_or_freezes_agree(two_replicas, thaws):
    model = model_in(
        two_replicas.scope(),
        tfdp.DistributedOptimizer,
        keras.layers.BatchNormalization,
    )
    layer = model.layers[1]
    layer.trainable = not thaws

    class Turn(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 2 and layer.trainable is not thaws:
                with two_replicas.scope():
                    layer.trainable = thaws
                    self.model.compile(
                        tfdp.DistributedOptimizer(SGD(0.1)), "mse"
                    )
                    self.model.make_train_function()

    fit(model, 8, [dp(), Turn()])
    for variable in (layer.moving_mean, layer.moving_variance):
        first, second = two_replicas.experimental_local_results(variable.value)
        np.testing.assert_array_equal(first.numpy(), second.numpy())
        assert not np.allclose(first.numpy(), np.round(first.numpy()))


def monitors():
    return [
        tfdp.callbacks.LossScaleMonitor(),
        tfdp.callbacks.LearningRateMonitor(),
        tfdp.callbacks.ThroughputMonitor(verbose=0),
        tfdp.callbacks.NoiseScaleMonitor(verbose=0),
    ]


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("hook", "when"), [("on_epoch_begin", 1), ("on_train_batch_end", 4)]
)
@pytest.mark.parametrize("comes_first", [True, False])
def test_monitors_look_at_the_new_optimizer(
    two_replicas, tmp_path, hook, when, comes_first
):
    def make(inner):
        return tfdp.DistributedOptimizer(SGD(0.02), accumulation_steps=2)

    model = model_in(two_replicas.scope(), tfdp.DistributedOptimizer)
    thaw = [Thaw(make, hook, when)]
    before, after = (thaw, []) if comes_first else ([], thaw)
    logger = tfdp.callbacks.RunLogger(tmp_path, every=1, tensorboard=False)
    fit(model, 8, [dp(), *before, *monitors(), *after, logger])
    history = model.history.history
    assert history["learning_rate"][0] == pytest.approx(
        0.1 if hook == "on_epoch_begin" else 0.02
    )
    assert history["learning_rate"][1:] == pytest.approx([0.02, 0.02])
    assert np.isfinite(history["samples_per_second"][1:]).all()
    assert history["noise_scale"][0] != history["noise_scale"][1]
    log = (tmp_path / "run.jsonl").read_text()
    lines = [json.loads(line) for line in log.splitlines()]
    updates = [each["update"] for each in lines if each["kind"] == "update"]
    assert updates == sorted(set(updates))
    # Seven batches of 8 in an epoch, accumulated by two from then on.
    made = 7 + 4 + 4 if hook == "on_epoch_begin" else 5 + 1 + 4 + 4
    assert updates[-1] == lines[-1]["update"] == made


def test_adascale_counts_its_steps_on(two_replicas):
    def adascale(inner):
        return tfdp.DistributedOptimizer(tfdp.AdaScale(0.01, base_batch=4))

    model = model_in(two_replicas.scope(), adascale)
    monitor = tfdp.callbacks.AdaScaleMonitor()
    fit(model, 8, [dp(), Thaw(adascale), monitor])
    steps = model.history.history["scale_invariant_steps"]
    assert 7 <= steps[0] < steps[1] < steps[2]
    assert np.isfinite(model.history.history["adascale_gain"]).all()


def test_backups_go_on_after_the_model_was_compiled_again(
    two_replicas, tmp_path
):
    class Kill(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    def backup():
        return tfdp.callbacks.BackupAndRestore(
            tmp_path, save_freq=2, keep=1, delete_checkpoint=False
        )

    def make(inner):
        return tfdp.DistributedOptimizer(SGD(0.1))

    keras.utils.set_random_seed(1)
    model = model_in(two_replicas.scope(), make)
    model.layers[0].trainable = True
    with pytest.raises(KeyboardInterrupt):
        fit(model, 8, [dp(), Thaw(make, when=1), backup(), Kill()])
    # What was saved last is written while the error travels.
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        names = [path.name for path in tmp_path.glob("backup-*.npz")]
        if names == ["backup-0000000013.npz"]:
            break
        time.sleep(0.05)
    assert names == ["backup-0000000013.npz"]
    trained = model.get_weights()
    again = model_in(two_replicas.scope(), make)
    again.layers[0].trainable = True
    seen = []
    look = keras.callbacks.LambdaCallback(
        on_train_batch_begin=lambda batch, logs: seen.append(
            again.get_weights()
        )
    )
    with pytest.warns(UserWarning, match="compiled again, in the middle"):
        again.fit(
            X,
            Y,
            batch_size=8,
            epochs=3,
            shuffle=False,
            verbose=0,
            callbacks=[dp(), backup(), look],
        )
    del seen[0]
    assert again.history.epoch == [0, 1, 2]
    assert max(p.name for p in tmp_path.glob("backup-*.npz")) == (
        "backup-0000000021.npz"
    )
    assert not np.allclose(trained[0], again.get_weights()[0])


def test_the_new_optimizer_is_built_before_its_first_step(two_replicas):
    model = model_in(two_replicas.scope(), tfdp.DistributedOptimizer)
    eager = []

    class Noting(tfdp.DistributedOptimizer):
        def build(self, variables):
            eager.append(tf.executing_eagerly())
            super().build(variables)

    fit(model, 8, [dp(), Thaw(Noting)])
    assert eager == [True]
