"""The edges of a fit."""

import keras
import problem
import pytest

import tfdp


def make(strategy, inner=None, steps=1, **arguments):
    with strategy.scope():
        model = problem.make_model()
        optimizer = tfdp.DistributedOptimizer(
            inner or keras.optimizers.SGD(0.05), accumulation_steps=steps
        )
        model.compile(optimizer, "mse", **arguments)
    return model


def test_it_must_come_first(two_replicas):
    model = make(two_replicas)
    with pytest.raises(
        RuntimeError, match="must come first.*Received: TerminateOnNaN before"
    ):
        model.fit(
            problem.dataset(8, 8),
            verbose=0,
            callbacks=[
                keras.callbacks.TerminateOnNaN(),
                tfdp.callbacks.DataParallel(),
            ],
        )


@pytest.mark.parametrize(
    "make_other",
    [
        lambda folder: tfdp.callbacks.BackupAndRestore(folder),
        lambda folder: tfdp.callbacks.LearningRateMonitor(),
        lambda folder: tfdp.callbacks.LossScaleMonitor(),
        lambda folder: tfdp.callbacks.NoiseScaleMonitor(),
        lambda folder: tfdp.callbacks.RunLogger(folder),
        lambda folder: tfdp.callbacks.ThroughputMonitor(verbose=0),
    ],
    ids=["backup", "rate", "scale", "noise", "log", "throughput"],
)
@pytest.mark.filterwarnings("ignore:Data must be shuffled by TensorFlow")
def test_whatever_comes_before_it_is_named(two_replicas, tmp_path, make_other):
    other = make_other(tmp_path)
    name = type(other).__name__
    with pytest.raises(
        RuntimeError, match=f"must come first.*Received: {name} before"
    ):
        make(two_replicas).fit(
            problem.dataset(8, 8),
            verbose=0,
            callbacks=[other, tfdp.callbacks.DataParallel()],
        )


def test_others_see_whole_updates_at_the_end_of_an_epoch(two_replicas):
    seen = []

    class Watch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            optimizer = self.model.optimizer
            seen.append(
                (
                    int(optimizer.iterations.numpy()),
                    int(optimizer.micro_step.numpy()),
                )
            )

    make(two_replicas, steps=4).fit(
        problem.dataset(48, 8),
        epochs=3,
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel(), Watch()],
    )
    # Six micro-batches: one cycle of four, and one of two.
    assert seen == [(2, 0), (4, 0), (6, 0)]


def test_compiling_outside_of_the_scope_is_refused(two_replicas):
    with two_replicas.scope():
        model = problem.make_model()
        optimizer = tfdp.DistributedOptimizer(keras.optimizers.SGD(0.05))
    model.compile(optimizer, "mse")
    with pytest.raises(
        RuntimeError, match="built and compiled in the strategy's scope"
    ):
        model.fit(
            problem.dataset(8, 8),
            verbose=0,
            callbacks=[tfdp.callbacks.DataParallel()],
        )


def test_a_softmax_in_half_precision_is_warned_of(two_replicas):
    keras.config.set_dtype_policy("mixed_bfloat16")
    with two_replicas.scope():
        model = keras.Sequential(
            [keras.Input((8,)), keras.layers.Dense(2, "softmax", name="out")]
        )
        optimizer = tfdp.DistributedOptimizer(keras.optimizers.SGD(0.05))
        model.compile(optimizer, "mse")
    with pytest.warns(UserWarning, match="`out` computes its softmax in bf"):
        model.fit(
            problem.dataset(8, 8),
            verbose=0,
            callbacks=[tfdp.callbacks.DataParallel()],
        )


def test_a_standalone_evaluation_flushes_nothing(two_replicas):
    model = make(two_replicas, steps=4)
    x, y = problem.arrays(8)
    model.train_on_batch(x, y)
    callback = tfdp.callbacks.DataParallel()
    model.evaluate(problem.dataset(8, 8), verbose=0, callbacks=[callback])
    assert int(model.optimizer.micro_step.numpy()) == 1


@pytest.mark.parametrize("is_ours", [True, False])
def test_forgetting_the_scope_is_refused(is_ours):
    """Each worker would else train for itself, without a word."""
    model = problem.make_model()
    inner = keras.optimizers.SGD(0.05)
    model.compile(tfdp.DistributedOptimizer(inner) if is_ours else inner, "mse")
    with pytest.raises(RuntimeError, match="outside of any scope"):
        model.fit(
            problem.dataset(8, 8),
            verbose=0,
            callbacks=[tfdp.callbacks.DataParallel()],
        )


def test_a_sum_over_the_batch_is_refused(two_replicas):
    with two_replicas.scope():
        model = problem.make_model()
        model.compile(
            tfdp.DistributedOptimizer(keras.optimizers.SGD(0.05)),
            keras.losses.MeanSquaredError(reduction="sum", name="error"),
        )
    with pytest.raises(RuntimeError, match="`error` with reduction='sum'"):
        model.fit(
            problem.dataset(8, 8),
            verbose=0,
            callbacks=[tfdp.callbacks.DataParallel()],
        )


@pytest.mark.parametrize("is_chief", [True, False])
def test_only_the_chief_shows_progress(
    two_replicas, is_chief, monkeypatch, capsys
):
    monkeypatch.setattr(
        tfdp.MirroredStrategy, "worker_index", property(lambda s: not is_chief)
    )
    make(two_replicas).fit(
        problem.dataset(8, 8),
        verbose=2,
        callbacks=[tfdp.callbacks.DataParallel()],
    )
    assert ("loss" in capsys.readouterr().out) == is_chief
