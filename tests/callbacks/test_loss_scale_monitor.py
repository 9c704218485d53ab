"""The loss scale in the logs, and the end of training that has no numbers."""

import re

import keras
import numpy as np
import problem
import pytest
import tensorflow as tf

import tfdp

BATCH = 8
GOOD, BAD = True, False


def make(strategy, steps=1, **arguments):
    with strategy.scope():
        model = problem.make_model()
        optimizer = tfdp.DistributedOptimizer(
            keras.optimizers.SGD(0.05), accumulation_steps=steps, **arguments
        )
        model.compile(optimizer, "mse")
    return model


def batches(*kinds):
    """A dataset of batches, of which the bad ones give no finite gradient."""
    x, y = problem.arrays(BATCH * len(kinds))
    for place, kind in enumerate(kinds):
        if kind is BAD:
            x[place * BATCH] = np.nan
    # To leave an iteration early is to wait for its autotuner.
    autotune_off = tf.data.Options()
    autotune_off.autotune.enabled = False
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(BATCH)
    return data.with_options(autotune_off)


def fit(model, data, *, patience=20, epochs=1, **options):
    callbacks = [
        tfdp.callbacks.DataParallel(),
        tfdp.callbacks.LossScaleMonitor(patience=patience),
    ]
    options = {"verbose": 0, **options}
    return model.fit(
        data, epochs=epochs, callbacks=callbacks, **options
    ).history


def counts(model):
    optimizer = model.optimizer
    return (
        int(optimizer.iterations.numpy()),
        int(optimizer.skipped_updates.numpy()),
    )


def stops(lost, scale):
    return pytest.warns(
        UserWarning,
        match=f"Received: {lost} updates skipped in a row at a scale of "
        f"{scale}; training stops",
    )


def test_scale_and_skipped_updates_are_logged_by_epoch(two_replicas):
    model = make(two_replicas, loss_scale="dynamic")
    history = fit(model, batches(GOOD, BAD, GOOD), epochs=3)
    assert history["loss_scale"] == [2.0**14, 2.0**13, 2.0**12]
    assert history["skipped_updates"] == [1, 2, 3]
    assert counts(model) == (6, 3)


@pytest.mark.parametrize("loss_scale", [None, 64.0])
def test_a_scale_that_does_not_change_is_logged_too(two_replicas, loss_scale):
    model = make(two_replicas, loss_scale=loss_scale)
    history = fit(model, batches(GOOD, GOOD), epochs=2)
    assert history["loss_scale"] == [loss_scale or 1.0] * 2
    assert history["skipped_updates"] == [0, 0]


def test_it_logs_in_float16_what_the_policy_has_turned_on(two_replicas):
    keras.config.set_dtype_policy("mixed_float16")
    history = fit(make(two_replicas), batches(GOOD, BAD, GOOD, GOOD))
    assert history["loss_scale"] == [2.0**14]
    assert history["skipped_updates"] == [1]


def test_callbacks_that_come_after_read_its_logs(two_replicas, tmp_path):
    path = tmp_path / "log.csv"
    make(two_replicas, loss_scale=8.0).fit(
        batches(GOOD, BAD),
        verbose=0,
        callbacks=[
            tfdp.callbacks.DataParallel(),
            tfdp.callbacks.LossScaleMonitor(),
            keras.callbacks.CSVLogger(path),
        ],
    )
    head, row = path.read_text().splitlines()
    values = dict(zip(head.split(","), row.split(","), strict=True))
    assert values["loss_scale"] == "8.0"
    assert values["skipped_updates"] == "1"


@pytest.mark.parametrize(("loss_scale", "patience"), [("dynamic", 3), (1.0, 1)])
def test_training_stops_after_its_patience_at_the_lowest_scale(
    two_replicas, loss_scale, patience
):
    model = make(two_replicas, loss_scale=loss_scale, initial_scale=1.0)
    with stops(patience, scale=1):
        history = fit(model, batches(*[BAD] * 8), patience=patience, epochs=2)
    assert counts(model) == (0, patience)
    assert history["skipped_updates"] == [patience]


def test_the_warning_says_what_to_try(two_replicas):
    model = make(two_replicas, loss_scale="dynamic", initial_scale=1.0)
    advice = (
        "Look for a loss or layer that divides by zero or takes a logarithm "
        "of it, lower the learning rate, clip gradients, or use "
        "`tfdp.set_precision('mixed_bfloat16')`."
    )
    with pytest.warns(UserWarning, match=re.escape(advice)):
        fit(model, batches(BAD, BAD), patience=1)


def test_a_static_scale_cannot_fall_and_counts_as_lowest(two_replicas):
    model = make(two_replicas, loss_scale=64.0)
    with stops(2, scale=64):
        fit(model, batches(GOOD, BAD, BAD, GOOD), patience=2)
    assert counts(model) == (1, 2)


def test_a_scale_that_still_falls_is_given_time(two_replicas):
    model = make(two_replicas, loss_scale="dynamic")
    history = fit(model, batches(*[BAD] * 10), patience=1)
    assert history["loss_scale"] == [2.0**5]
    assert counts(model) == (0, 10)


def test_a_good_update_begins_the_count_anew(two_replicas):
    model = make(two_replicas, loss_scale=64.0)
    fit(model, batches(BAD, BAD, GOOD, BAD, BAD, GOOD), patience=3)
    assert counts(model) == (2, 4)
    kinds = [BAD, BAD, GOOD, BAD, BAD, BAD, BAD]
    with stops(3, scale=64):
        fit(model, batches(*kinds), patience=3)
    assert counts(model) == (3, 4 + 5)


def test_skipped_updates_are_counted_through_the_end_of_an_epoch(two_replicas):
    model = make(two_replicas, loss_scale=64.0)
    with stops(3, scale=64):
        fit(model, batches(BAD, BAD), patience=3, epochs=4)
    assert counts(model) == (0, 3)


def test_updates_are_counted_and_not_micro_batches(two_replicas):
    model = make(two_replicas, steps=2, loss_scale=64.0)
    # Micro-batches without an update between the second and third skip.
    kinds = [BAD, GOOD, GOOD, BAD, BAD, BAD, GOOD, GOOD]
    with stops(3, scale=64):
        fit(model, batches(*kinds), patience=3)
    assert counts(model) == (0, 3)


def test_training_may_go_on_after_it_was_stopped(two_replicas):
    model = make(two_replicas, loss_scale=64.0)
    with stops(2, scale=64):
        fit(model, batches(BAD, BAD, BAD), patience=2)
    fit(model, batches(BAD, GOOD, BAD), patience=2)
    assert counts(model) == (1, 4)


def test_losses_that_are_no_numbers_go_on_without_a_scale(two_replicas):
    model = make(two_replicas, loss_scale=None)
    fit(model, batches(BAD, BAD, BAD), patience=1)
    assert counts(model) == (3, 0)


def test_another_optimizer_is_refused(two_replicas):
    with two_replicas.scope():
        model = problem.make_model()
        model.compile("sgd", "mse")
    with pytest.raises(
        RuntimeError, match="counts skipped updates. Received: SGD. Compile"
    ):
        model.fit(
            batches(GOOD),
            verbose=0,
            callbacks=[tfdp.callbacks.LossScaleMonitor()],
        )


@pytest.mark.parametrize(
    ("value", "error"), [(0, ValueError), (1.0, TypeError), (True, TypeError)]
)
def test_patience_is_a_positive_count(value, error):
    with pytest.raises(error, match=f"Received: patience={value}"):
        tfdp.callbacks.LossScaleMonitor(patience=value)


def test_the_skip_that_lowers_the_scale_is_not_one_at_the_lowest(two_replicas):
    with two_replicas.scope():
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        model.compile(
            tfdp.DistributedOptimizer(
                keras.optimizers.SGD(0.1),
                loss_scale="dynamic",
                initial_scale=2.0,
            ),
            "mse",
        )
    x = np.ones((12, 1), "float32")
    x[:4] = np.nan
    model.fit(
        x,
        np.zeros((12, 1)),
        batch_size=4,
        shuffle=False,
        verbose=0,
        callbacks=[
            tfdp.callbacks.DataParallel(),
            tfdp.callbacks.LossScaleMonitor(patience=1),
        ],
    )
    assert int(model.optimizer.iterations.numpy()) == 2
