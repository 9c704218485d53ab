"""Metrics of the batch as a whole are found, and their wrapping silences it."""

import keras
import problem
import pytest
import tensorflow as tf

import tfdp


def spread(y_true, y_pred):
    return keras.ops.max(y_pred) - keras.ops.min(y_pred)


def per_sample(y_true, y_pred):
    return keras.ops.mean(keras.ops.square(y_true - y_pred), axis=-1)


class Range(keras.metrics.Metric):
    """The widest batch."""

    def __init__(self, name="range", **kwargs):
        super().__init__(name=name, **kwargs)
        self.total = self.add_variable((), initializer="zeros", name="total")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.total.assign(keras.ops.maximum(self.total, spread(None, y_pred)))

    def result(self):
        return self.total


class Uncopied(Range):
    """One whose configuration lacks what it was made with."""

    def __init__(self, width):
        super().__init__()
        self.width = width


def audited(strategy, *metrics, data=False):
    with strategy.scope():
        model = problem.make_model()
        model.compile(
            tfdp.DistributedOptimizer(keras.optimizers.SGD(0.1)),
            "mse",
            metrics=list(metrics),
        )
    return tfdp.audit(model, problem.arrays(9) if data else None)


@pytest.mark.parametrize("data", [False, True])
def test_a_function_of_the_whole_batch_is_found(two_replicas, data):
    (finding,) = audited(two_replicas, spread, data=data)
    assert finding.severity == "warning"
    assert "`spread`, which returns one scalar per batch" in finding.message
    assert "tfdp.DistributedMetric(metric)" in finding.message


def test_a_metric_of_the_whole_batch_is_found_in_data(two_replicas):
    assert audited(two_replicas, Range()) == []
    (finding,) = audited(two_replicas, Range(), data=True)
    assert finding.severity == "warning"
    assert "`range`, which makes another value" in finding.message


@pytest.mark.parametrize("metric", [spread, Range()], ids=["function", "class"])
def test_wrapped_it_is_not_found(two_replicas, metric):
    wrapped = tfdp.DistributedMetric(metric)
    assert audited(two_replicas, wrapped, data=True) == []


def test_sums_means_and_counts_are_not_found(two_replicas):
    sound = [
        "mae",
        per_sample,
        keras.metrics.RootMeanSquaredError(),
        keras.metrics.R2Score(),
        keras.metrics.AUC(),
        keras.metrics.MeanSquaredError(),
        Uncopied(3),
    ]
    assert audited(two_replicas, *sound, data=True) == []


def test_on_one_replica_there_are_no_parts():
    strategy = tfdp.MirroredStrategy(["CPU:0"])
    assert audited(strategy, spread, Range(), data=True) == []


def test_a_fit_warns_of_it(two_replicas):
    with two_replicas.scope():
        model = problem.make_model()
        model.compile(
            tfdp.DistributedOptimizer(keras.optimizers.SGD(0.1)),
            "mse",
            metrics=[spread],
        )
    data = tf.data.Dataset.from_tensor_slices(problem.arrays(8)).batch(8)
    with pytest.warns(UserWarning, match="Received: `spread`, which returns"):
        model.fit(data, verbose=0, callbacks=[tfdp.callbacks.DataParallel()])
