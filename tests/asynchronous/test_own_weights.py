"""Weights that callbacks and steps set, where the weights are a server's."""

import time

import asynchronous_fit
import keras
import numpy as np
import pytest
import tensorflow as tf

import tfdp

CPU = ["CPU:0"]
# The server sums in other orders than a graph of Keras's step.
ROUNDING = 2e-6


@pytest.fixture(scope="module")
def strategy():
    return tfdp.AsynchronousStrategy(0, devices=CPU)


@pytest.fixture(scope="module")
def undisturbed():
    return plain([])


class Halve(keras.callbacks.Callback):
    """Halves the weights, in one of the methods that Keras calls."""

    def __init__(self, hook, at=None):
        super().__init__()
        self.at = at
        setattr(self, hook, self.halve)

    def halve(self, index=None, logs=None):
        if isinstance(index, dict) or self.at in (None, index):
            weights = self.model.get_weights()
            self.model.set_weights([w * 0.5 for w in weights])


class Stepping(keras.Sequential):
    """Updates in a step of its own."""

    updates = 1
    clips = False

    def train_step(self, data):
        x, y = data
        for _ in range(self.updates):
            with tf.GradientTape() as tape:
                loss = self.compute_loss(x, y, self(x, training=True))
            gradients = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply(gradients, self.trainable_variables)
        if self.clips:
            for variable in self.trainable_variables:
                variable.assign(keras.ops.clip(variable, -0.1, 0.1))
        return {"loss": loss}


def make_model():
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((5,)),
            keras.layers.Dense(7, "tanh"),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(1),
        ]
    )


def stepping(**settings):
    model = Stepping([keras.Input((5,)), keras.layers.Dense(1)])
    for name, value in settings.items():
        setattr(model, name, value)
    return model


def fit(model, callbacks=(), edges=True, **kwargs):
    samples = asynchronous_fit.samples()
    return model.fit(
        *samples,
        batch_size=asynchronous_fit.BATCH,
        shuffle=False,
        verbose=0,
        callbacks=[
            *([tfdp.callbacks.DataParallel()] if edges else []),
            *callbacks,
        ],
        **{"epochs": 3, "validation_data": samples, **kwargs},
    )


def compiled(strategy, optimizer=None, model=make_model, **kwargs):
    with strategy.scope():
        made = model()
        made.compile(
            tfdp.DistributedOptimizer(
                optimizer or keras.optimizers.SGD(0.05, 0.9), **kwargs
            ),
            "mse",
        )
    return made


def plain(callbacks, optimizer=None, **kwargs):
    model = make_model()
    model.compile(optimizer or keras.optimizers.SGD(0.05, 0.9), "mse")
    fit(model, callbacks, edges=False, **kwargs)
    return model


def distance(one, other):
    pairs = zip(one.get_weights(), other.get_weights(), strict=True)
    return max(np.abs(a - b).max() for a, b in pairs)


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("hook", "at"),
    [
        pytest.param("on_train_begin", None, marks=pytest.mark.long),
        ("on_train_end", None),
        ("on_epoch_begin", None),
        pytest.param("on_epoch_begin", 0, marks=pytest.mark.long),
        pytest.param("on_epoch_end", None, marks=pytest.mark.long),
        # Of the last epoch.
        ("on_epoch_end", 2),
        ("on_test_begin", None),
        pytest.param("on_test_end", None, marks=pytest.mark.long),
    ],
)
def test_what_is_set_at_an_edge_counts(strategy, undisturbed, hook, at):
    model = compiled(strategy)
    fit(model, [Halve(hook, at)])
    expected = plain([Halve(hook, at)])
    assert distance(model, expected) < ROUNDING
    assert distance(model, undisturbed) > 1e-2
    if hook != "on_train_end":
        state = strategy.exchange.save()
        served = [v for n, v in state.items() if n.startswith("weights/")]
        for one, other in zip(served, model.trainable_weights, strict=True):
            np.testing.assert_array_equal(one, other.numpy())


def test_weights_that_an_average_ends_with_are_those_of_keras(strategy):
    def optimizer():
        return keras.optimizers.SGD(
            0.05, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=4
        )

    model = compiled(strategy, optimizer())
    fit(model, [Halve("on_epoch_end")])
    expected = plain([Halve("on_epoch_end")], optimizer())
    assert distance(model, expected) < ROUNDING


@pytest.mark.parametrize(
    "kwargs",
    [
        {"accumulation_steps": 2},
        {"synchronization": tfdp.DiLoCo(keras.optimizers.SGD(0.7), 2)},
    ],
    ids=["accumulation", "DiLoCo"],
)
def test_what_is_set_between_rounds_counts(strategy, kwargs):
    def train(edge):
        model = compiled(strategy, keras.optimizers.SGD(0.05), **kwargs)
        fit(model, edge, epochs=1)
        if not edge:
            model.set_weights([w * 0.5 for w in model.get_weights()])
        fit(model, epochs=1)
        return model

    assert distance(train([Halve("on_epoch_end")]), train([])) == 0


def test_best_weights_are_restored(strategy):
    def stop():
        return keras.callbacks.EarlyStopping(
            "val_loss", patience=1, min_delta=9.0, restore_best_weights=True
        )

    model = compiled(strategy)
    fit(model, [stop()])
    assert distance(model, plain([stop()])) < ROUNDING


def test_what_is_set_within_a_backed_up_fit_is_in_the_backup(
    strategy, tmp_path
):
    def backed_up(epochs, **kwargs):
        backup = tfdp.callbacks.BackupAndRestore(
            tmp_path, delete_checkpoint=False
        )
        model = compiled(strategy)
        fit(model, [Halve("on_epoch_end", 1), backup], epochs=epochs)
        return model

    backed_up(2)
    expected = plain([Halve("on_epoch_end", 1)], epochs=4)
    assert distance(backed_up(4), expected) < ROUNDING


def test_settings_and_counts_that_are_set_before_a_fit_count(strategy):
    def train(model, **kwargs):
        fit(model, epochs=1, **kwargs)
        optimizer = model.optimizer
        inner = getattr(optimizer, "inner_optimizer", optimizer)
        inner.beta_1 = 0.5
        optimizer.iterations.assign(1)
        # So that Keras traces its step anew.
        model.make_train_function(force=True)
        fit(model, epochs=1, **kwargs)
        return model

    expected = make_model()
    expected.compile(keras.optimizers.Adam(0.01), "mse")
    model = train(compiled(strategy, keras.optimizers.Adam(0.01)))
    assert distance(model, train(expected, edges=False)) < ROUNDING


SET = "other values of '.*kernel'(| and 1 more) than the last exchange gave"


@pytest.mark.parametrize("batch", [0, 5])
@pytest.mark.parametrize("hook", ["on_train_batch_begin", "on_train_batch_end"])
def test_what_is_set_within_an_epoch_is_refused(strategy, hook, batch):
    model = compiled(strategy, model=stepping)
    # At the first step an update is yet to come, and at the last one the end.
    with pytest.raises(RuntimeError, match=SET):
        fit(model, [Halve(hook, batch)])


@pytest.mark.parametrize("accumulation_steps", [1, 2])
def test_what_a_step_sets_is_refused(strategy, accumulation_steps):
    model = compiled(
        strategy,
        model=lambda: stepping(clips=True),
        accumulation_steps=accumulation_steps,
    )
    with pytest.raises(RuntimeError, match="by a step of your own. Give the"):
        fit(model)
    assert int(model.optimizer.iterations.numpy()) <= 1


def test_what_a_late_step_sets_is_refused_at_the_end_of_the_epoch(
    strategy, monkeypatch
):
    monkeypatch.setattr(Halve, "__module__", "keras.callbacks")
    monkeypatch.setattr(Halve.halve, "__module__", "keras.callbacks")
    model = compiled(strategy, model=stepping)
    with pytest.raises(RuntimeError, match=SET):
        fit(model, [Halve("on_train_batch_end", 5)], epochs=1)
    assert int(model.optimizer.iterations.numpy()) == 6


def test_a_step_of_its_own_trains(strategy):
    model = compiled(strategy, model=stepping)
    fit(model)
    assert int(model.optimizer.iterations.numpy()) == 18


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        pytest.param({"accumulation_steps": 2}, marks=pytest.mark.long),
        {"synchronization": tfdp.DiLoCo(keras.optimizers.SGD(0.7), 2)},
        pytest.param({"loss_scale": 2.0}, marks=pytest.mark.long),
    ],
    ids=["every step", "accumulation", "DiLoCo", "scaled"],
)
def test_a_step_that_updates_twice_is_refused_as_it_is_traced(strategy, kwargs):
    model = compiled(strategy, model=lambda: stepping(updates=2), **kwargs)
    before = model.get_weights()
    # The accumulator has found it before.
    refused = "applies the optimizer more than|may be called once per step"
    with pytest.raises((RuntimeError, ValueError), match=refused):
        fit(model)
    assert strategy.exchange.statistics()["version"] == 0
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("is_eager", [False, True])
def test_steps_of_one_execution_update_once_each(strategy, is_eager):
    with strategy.scope():
        model = stepping()
        model.compile(
            tfdp.DistributedOptimizer(keras.optimizers.SGD(0.05)),
            "mse",
            steps_per_execution=1 if is_eager else 3,
            run_eagerly=is_eager,
        )
    fit(model)
    assert int(model.optimizer.iterations.numpy()) == 18


class Scale(keras.callbacks.Callback):
    """Scales the weights at an edge, on each worker by another factor."""

    def __init__(self, hook):
        super().__init__()
        self.begun = []
        setattr(self, hook, self.scale)

    def scale(self, epoch, logs=None):
        if epoch == 1:
            factor = 0.5 if self.model.distribute_strategy.is_chief else 0.25
            weights = [w * factor for w in self.model.get_weights()]
            self.model.set_weights(weights)

    def on_train_batch_end(self, batch, logs=None):
        # So that both are there, and have batches.
        time.sleep(0.1)
        self.begun.append(values_of(self.model))


def values_of(model):
    return [v.numpy().tolist() for v in model.trainable_weights]


def train_and_scale(hook, epochs):
    """Trains without moving; returns the weights that there were."""
    strategy = tfdp.AsynchronousStrategy(1)
    model = compiled(strategy, keras.optimizers.SGD(0.0), stepping)
    start = values_of(model)
    scale = Scale(hook)
    fit(model, [scale], epochs=epochs)
    return [start, scale.begun[-1], values_of(model)]


@pytest.mark.multi_worker
@pytest.mark.sampled
@pytest.mark.parametrize(
    ("hook", "epochs"),
    [("on_epoch_begin", 2), ("on_epoch_end", 2), ("on_epoch_end", 3)],
)
def test_what_the_chief_sets_is_everybodys(hook, epochs):
    found = tfdp.testing.run_workers(
        train_and_scale, 2, [hook, epochs], asynchronous=True, timeout=100
    )
    is_last = hook == "on_epoch_end" and epochs == 2
    for _, begun, end in found:
        halved = [(np.float32(w) * 0.5).tolist() for w in found[0][0]]
        assert begun == (found[0][0] if is_last else halved)
        assert end == halved
