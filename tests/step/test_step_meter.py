import time

import keras
import numpy as np
import problem
import pytest
import tensorflow as tf

import tfdp
from tfdp.step.meter import Settings, StepMeter

BATCH = 16


def metered(strategy, *, steps=1, settings=None, **compile):
    """A compiled model whose steps are timed, and its meter."""
    with strategy.scope():
        model = problem.make_model()
        optimizer = tfdp.DistributedOptimizer(
            keras.optimizers.SGD(0.05), accumulation_steps=steps
        )
        model.compile(optimizer, "mse", **compile)
    meter = StepMeter(settings or Settings())
    assert optimizer.measure_time(meter) is meter
    meter.start(strategy)
    return model, meter


def fit(model, num_samples, **options):
    data = problem.dataset(num_samples, BATCH)
    model.fit(data, verbose=0, **options)


@pytest.mark.parametrize("eagerly", [False, True], ids=["graph", "eager"])
def test_stamps_are_in_the_order_of_what_happens(strategy, eagerly):
    model, meter = metered(strategy, run_eagerly=eagerly)
    before = time.time()
    fit(model, 4 * BATCH)
    after = time.time()
    rows = meter.read()
    assert len(rows) == strategy.num_replicas_in_sync
    for of_replica in rows:
        assert of_replica.shape == (4, 4)
        began, ready, reduced, _ = of_replica.T
        # The reduction does not wait for the stamp before it.
        over = np.maximum(ready, reduced)
        assert np.all(began <= np.minimum(ready, reduced))
        assert np.all(over[:-1] <= began[1:])
        assert before - 1e-5 <= began[0]
        assert over[-1] <= after
        share = BATCH / strategy.num_replicas_in_sync
        np.testing.assert_array_equal(of_replica[:, 3], share)


@pytest.mark.parametrize("together", [1, 3])
def test_only_the_end_of_a_cycle_is_reduced(two_replicas, together):
    model, meter = metered(two_replicas, steps=2, steps_per_execution=together)
    fit(model, 5 * BATCH, callbacks=[tfdp.callbacks.DataParallel()])
    for rows in meter.read():
        # The flush of the last, half cycle lies outside of steps.
        is_reduced = rows[:, 2] > 0
        np.testing.assert_array_equal(is_reduced, [0, 1, 0, 1, 0])


def test_replicas_have_the_samples_they_are_given(strategy):
    model, meter = metered(strategy)
    fit(model, 35)
    samples = np.sum([rows[:, 3] for rows in meter.read()], axis=0)
    np.testing.assert_array_equal(samples, [16, 16, 3])


def test_anything_can_be_counted(two_replicas):
    settings = Settings(samples_fn=lambda data: tf.size(data[0]))
    model, meter = metered(two_replicas, settings=settings)
    fit(model, 35)
    samples = np.sum([rows[:, 3] for rows in meter.read()], axis=0)
    np.testing.assert_array_equal(samples, [128, 128, 24])


def test_what_is_counted_must_be_a_number(two_replicas):
    settings = Settings(samples_fn=lambda data: data[0])
    model, _ = metered(two_replicas, settings=settings)
    with pytest.raises(
        ValueError, match=r"of shape \((None|8), 8\). Add it up"
    ):
        fit(model, 2 * BATCH)


def test_each_reading_begins_where_the_last_has_ended(two_replicas):
    model, meter = metered(two_replicas)
    fit(model, 3 * BATCH)
    first = meter.read()
    fit(model, 2 * BATCH)
    second = meter.read()
    assert [len(rows) for rows in (*first, *second)] == [3, 3, 2, 2]
    assert first[0][-1, 2] <= second[0][0, 0]
    assert [len(rows) for rows in meter.read()] == [0, 0]


def test_of_too_many_the_oldest_are_lost(two_replicas):
    model, meter = metered(two_replicas, settings=Settings(capacity=4))
    fit(model, 6 * BATCH)
    for rows in meter.read():
        assert len(rows) == 4
        assert np.all(np.diff(rows[:, 0]) > 0)


def test_a_meter_with_the_same_settings_goes_on(two_replicas):
    model, meter = metered(two_replicas)
    optimizer = model.optimizer
    assert optimizer.measure_time(StepMeter(Settings())) is meter
    other = StepMeter(Settings(capacity=8))
    assert optimizer.measure_time(other) is other


def test_graphs_made_while_it_is_off_have_no_stamps(two_replicas):
    def count(data):
        x, _ = data
        return tf.size(x)

    model, meter = metered(two_replicas, settings=Settings(samples_fn=count))
    fit(model, 2 * BATCH)
    meter.stop()
    assert not meter.is_missing
    x, y = problem.arrays(2 * BATCH)
    # Of other arguments than it can count.
    model.fit(x, y, BATCH, verbose=0, sample_weight=y[:, 0])
    assert meter.is_missing
    assert [len(rows) for rows in meter.read()] == [2, 2]


def test_variables_given_to_a_step_stay_variables(strategy):
    _, meter = metered(strategy)
    with strategy.scope():
        variable = tf.Variable(1.0)
    strategy.run(lambda v: v.assign_add(1.0), args=(variable,))
    assert float(variable.numpy()) == 2.0
    meter.stop()
    assert strategy.step_clock is None


@pytest.mark.parametrize("kind", ["sparse", "ragged"])
def test_composite_tensors_are_stamped_whole(two_replicas, kind):
    metered(two_replicas)
    given = tf.sparse.eye(3)
    if kind == "ragged":
        given = tf.RaggedTensor.from_tensor(tf.eye(3), padding=0.0)

    @tf.function
    def step():
        return two_replicas.run(tf.identity, args=(given,))

    for found in two_replicas.experimental_local_results(step()):
        assert type(found) is type(given)


def test_each_graph_is_noticed(two_replicas):
    model, meter = metered(two_replicas)
    fit(model, 2 * BATCH)
    # One of each replica, and one of what asks for data.
    assert meter.traces == 3
    fit(model, 2 * BATCH)
    assert meter.traces == 3
    model.make_train_function(force=True)
    fit(model, 2 * BATCH)
    assert meter.traces == 6


def test_weights_are_those_without_a_meter(strategy):
    trained = []
    for is_metered in (False, True):
        with strategy.scope():
            model = problem.make_model()
            model.compile(
                tfdp.DistributedOptimizer(keras.optimizers.SGD(0.05), 2),
                "mse",
            )
        if is_metered:
            model.optimizer.measure_time(StepMeter(Settings())).start(strategy)
        fit(model, 50, epochs=2, callbacks=[tfdp.callbacks.DataParallel()])
        trained.append(model.get_weights())
    for without, with_meter in zip(*trained, strict=True):
        np.testing.assert_array_equal(without, with_meter)


def test_replicas_do_not_wait_for_each_others_stamps(two_replicas):
    """As they would if TensorFlow chained the operations that read a clock."""

    model, _ = metered(two_replicas)
    with two_replicas.scope():
        model.optimizer.build(model.trainable_variables)

    @tf.function
    def step(data):
        two_replicas.run(model.train_step, args=(data,))

    graph = step.get_concrete_function(problem.arrays(BATCH)).graph
    stamps = [
        op
        for op in graph.get_operations()
        if op.type == "StatefulPartitionedCall"
    ]
    first, second = (
        [op for op in stamps if ("replica_1" in op.name) == is_second]
        for is_second in (False, True)
    )
    # Begin and gradients; the reduction is one for all.
    assert len(first) == len(second) == 3
    assert not before(second[0]) & set(stamps)
    assert before(second[1]) & set(stamps) == {second[0]}


def before(op):
    """All that an operation waits for."""
    found, left = set(), [op]
    while left:
        op = left.pop()
        sources = {*(i.op for i in op.inputs), *op.control_inputs} - found
        found |= sources
        left += sources
    return found
