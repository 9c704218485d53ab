"""Metrics of the batch as a whole, over replicas, are those of one device."""

import keras
import numpy as np
import problem
import pytest
import tensorflow as tf

import tfdp


@keras.saving.register_keras_serializable("tests")
def spread(y_true, y_pred):
    return keras.ops.max(y_pred) - keras.ops.min(y_pred)


@keras.saving.register_keras_serializable("tests")
class Correlation(keras.metrics.Metric):
    """Of labels and predictions within a batch; the mean over batches."""

    def __init__(self, name="correlation", **kwargs):
        super().__init__(name=name, **kwargs)
        self.total = self.add_variable((), initializer="zeros", name="total")
        self.batches = self.add_variable((), initializer="zeros", name="count")

    def update_state(self, y_true, y_pred, sample_weight=None):
        ones = keras.ops.ones_like(y_true)
        weight = ones if sample_weight is None else sample_weight
        weight = keras.ops.reshape(weight, (-1, 1))
        a, b = (
            x - keras.ops.sum(weight * x) / keras.ops.sum(weight)
            for x in (keras.ops.cast(y_true, y_pred.dtype), y_pred)
        )
        self.total.assign_add(
            keras.ops.sum(weight * a * b)
            / keras.ops.sqrt(keras.ops.sum(a * a) * keras.ops.sum(b * b))
        )
        self.batches.assign_add(1)

    def result(self):
        return self.total / self.batches


def metrics():
    return [spread, Correlation(), "mae"]


def weighted():
    return [Correlation(), "mae"]


def wrapped(kinds):
    return [tfdp.DistributedMetric(kind) for kind in kinds]


def model_of(optimizer, **compiled):
    model = problem.make_model()
    model.compile(optimizer, "mse", **compiled)
    return model


def logs_of(model, **fit):
    x, y = problem.arrays(35)  # The last batch of 3, for up to 4 replicas.
    weights = np.linspace(0.5, 1.5, 35, dtype="float32")
    history = model.fit(
        x,
        y,
        sample_weight=weights,
        batch_size=16,
        epochs=2,
        shuffle=False,
        verbose=0,
        validation_data=(x, y, weights),
        validation_batch_size=16,
        **fit,
    ).history
    return history, model.evaluate(x, y, batch_size=16, verbose=0)


def of_worker():
    """What each worker of several reports."""
    strategy = tfdp.auto_strategy()
    with strategy.scope():
        model = model_of(
            tfdp.DistributedOptimizer(keras.optimizers.SGD(0.1)),
            weighted_metrics=wrapped(weighted()),
        )
    return logs_of(model, callbacks=[tfdp.callbacks.DataParallel()])


def check(actual, expected):
    for key, values in expected[0].items():
        np.testing.assert_allclose(actual[0][key], values, rtol=2e-5)
    np.testing.assert_allclose(actual[1], expected[1], rtol=2e-5)


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("kind", "make"), [("metrics", metrics), ("weighted_metrics", weighted)]
)
def test_metrics_of_the_batch_equal_one_device(strategy, kind, make):
    sgd = keras.optimizers.SGD(0.1)
    expected = logs_of(model_of(sgd, **{kind: make()}))
    with strategy.scope():
        model = model_of(
            tfdp.DistributedOptimizer(keras.optimizers.SGD(0.1)),
            **{kind: wrapped(make())},
        )
    callbacks = [tfdp.callbacks.DataParallel()]
    check(logs_of(model, callbacks=callbacks), expected)


@pytest.mark.multi_worker
def test_metrics_of_all_workers_equal_one_device():
    sgd = keras.optimizers.SGD(0.1)
    expected = logs_of(model_of(sgd, weighted_metrics=weighted()))
    for report in tfdp.testing.run_workers(of_worker, 2):
        check(report, expected)


def test_it_is_saved_with_what_it_wraps(tmp_path):
    model = model_of("sgd", metrics=wrapped(metrics()))
    x, y = problem.arrays(16)
    expected = model.evaluate(x, y, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again.evaluate(x, y, verbose=0), expected)
    metric = tfdp.DistributedMetric(spread, name="range")
    copy = tfdp.DistributedMetric.from_config(metric.get_config())
    assert (copy.name, copy.metric.name) == ("range", "spread")


def test_no_metric_is_refused():
    with pytest.raises(ValueError, match="Received: metric=None"):
        tfdp.DistributedMetric(None)


def test_a_strategy_that_does_not_count_samples_is_refused():
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        metric = tfdp.DistributedMetric(spread)
    with pytest.raises(RuntimeError, match="Received: MirroredStrategy"):
        strategy.run(lambda: metric.update_state([[1.0]], [[1.0]]))


class Counts(keras.metrics.Metric):
    """Whose result is its own variable, which goes on to change."""

    def __init__(self, result):
        super().__init__(name="counts")
        self.returns = result
        self.counts = self.add_variable((3,), initializer="zeros", name="n")

    def update_state(self, y_true, y_pred, sample_weight=None):
        signs = [y_true > 0, y_pred > 0, (y_true > 0) == (y_pred > 0)]
        self.counts.assign_add(
            keras.ops.stack(
                [keras.ops.sum(keras.ops.cast(s, "float32")) for s in signs]
            )
        )

    def result(self):
        return self.returns(self.counts)


RESULTS = {
    "variable": lambda counts: counts,
    "of TensorFlow": lambda counts: counts.value,
    "tensor": keras.ops.convert_to_tensor,
}


@pytest.mark.long
@pytest.mark.parametrize("result", RESULTS)
def test_the_history_of_a_result_that_is_a_variable_does_not_change(
    strategy, result
):
    """Plain Keras is given a copy; a variable is no result to it."""
    kept = []

    class Keep(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            kept.append(np.array(logs["counts"]).tolist())

    def history_of(callbacks, optimizer, metric):
        model = model_of(optimizer, metrics=[metric])
        data = problem.dataset(97, 32)
        fit = {"validation_data": data, "epochs": 3, "verbose": 0}
        more = [*callbacks, Keep()]
        history = model.fit(data, callbacks=more, **fit).history
        model.fit(data, callbacks=callbacks, **fit)
        model.evaluate(data, verbose=0)
        return {k: np.array(v).tolist() for k, v in history.items()}

    sgd = keras.optimizers.SGD(0.05)
    expected = history_of([], sgd, Counts(lambda counts: counts + 0))
    assert len({tuple(each) for each in expected["counts"]}) == 3
    with strategy.scope():
        optimizer = tfdp.DistributedOptimizer(keras.optimizers.SGD(0.05))
        callbacks = [tfdp.callbacks.DataParallel()]
        actual = history_of(callbacks, optimizer, Counts(RESULTS[result]))
    assert actual["counts"] == expected["counts"]
    assert actual["val_counts"] == expected["val_counts"]
    assert kept[3:] == kept[:3] == expected["counts"]
