"""Where TensorFlow's strategy answers, tfdp's gives the same answer."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfdp

SUM, MEAN = tf.distribute.ReduceOp.SUM, tf.distribute.ReduceOp.MEAN
DEVICES = ["CPU:0", "CPU:1"]


def replica_id():
    context = tf.distribute.get_replica_context()
    return context.replica_id_in_sync_group


def per_replica(strategy, function):
    return strategy.experimental_distribute_values_from_function(
        lambda context: tf.convert_to_tensor(
            function(context.replica_id_in_sync_group + 1)
        )
    )


def scalars(strategy):
    return per_replica(strategy, lambda i: 1.5 * i)


def vectors(strategy):
    return per_replica(strategy, lambda i: [1.0 * i, 2.0 * i, 4.0])


def uneven(strategy):
    return per_replica(strategy, lambda i: np.arange(3.0 * i) + i)


def matrices(strategy):
    return per_replica(strategy, lambda i: np.arange(6.0).reshape(2, 3) * i)


def double(x, y=0.0):
    return 2.0 * x + y


def branch(x):
    if tf.reduce_sum(x) > 10.0:
        return x
    return -x


def all_reduced(x):
    return tf.distribute.get_replica_context().all_reduce(SUM, x)


def merged(x):
    def merge(strategy, value):
        return strategy.reduce(SUM, value, axis=None)

    return tf.distribute.get_replica_context().merge_call(merge, args=(x,))


def nested_result(x):
    return {"a": x, "b": (replica_id(), [tf.reduce_sum(x), None])}


def weight_after_steps(strategy):
    with strategy.scope():
        weight = tf.Variable(1.0, aggregation=tf.VariableAggregation.MEAN)

    @tf.function
    def step():
        strategy.run(
            lambda: weight.assign_add(tf.cast(replica_id(), tf.float32))
        )

    step()
    step()
    return weight


def scope(strategy):
    outside = tf.distribute.has_strategy()
    with strategy.scope():
        inside = tf.distribute.get_strategy() is strategy
        variable = tf.Variable([1.0, 2.0])
    return (
        outside,
        inside,
        strategy.extended.variable_created_in_scope(variable),
        strategy.experimental_local_results(variable),
        tf.distribute.has_strategy(),
    )


def dataset_batches(strategy):
    dataset = tf.data.Dataset.range(11).batch(4)
    distributed = strategy.experimental_distribute_dataset(dataset)
    return [strategy.experimental_local_results(b) for b in distributed]


def datasets_from_function(strategy):
    distributed = strategy.distribute_datasets_from_function(
        lambda context: tf.data.Dataset.range(8).batch(
            context.get_per_replica_batch_size(4)
        )
    )
    return [strategy.experimental_local_results(b) for b in distributed]


def in_function(call):
    """Makes the call inside of a `tf.function`, as `fit` does."""

    def traced(strategy):
        return tf.function(lambda: call(strategy))()

    return traced


def ran(fn, *values, **options):
    """A call of `run` that gives the local results."""

    def call(strategy):
        args = tuple(value(strategy) for value in values)
        result = strategy.run(fn, args=args, **options)
        return strategy.experimental_local_results(result)

    return call


def reduced(op, values, axis):
    return lambda strategy: strategy.reduce(op, values(strategy), axis=axis)


def nested(strategy):
    return {"a": vectors(strategy), "b": (scalars(strategy), vectors(strategy))}


CALLS = {
    "run": ran(double, vectors),
    "run in a function": in_function(ran(double, vectors)),
    "run a tf.function": ran(tf.function(double), vectors),
    "run a tf.function in a function": in_function(
        ran(tf.function(double), vectors)
    ),
    "run a method": ran(keras.layers.Rescaling(3.0).call, vectors),
    "run with a Python branch": in_function(ran(branch, vectors)),
    "run a tf.function that merges": ran(tf.function(merged), vectors),
    "run a tf.function that merges in a function": in_function(
        ran(tf.function(merged), vectors)
    ),
    "run with keywords": lambda strategy: strategy.experimental_local_results(
        strategy.run(
            double, (vectors(strategy),), kwargs={"y": scalars(strategy)}
        )
    ),
    "run without arguments": ran(replica_id),
    "run with options": ran(
        double, vectors, options=tf.distribute.RunOptions()
    ),
    "run on a list of arguments": lambda strategy: (
        strategy.experimental_local_results(
            strategy.run(double, [vectors(strategy)])
        )
    ),
    "run on uneven values": ran(double, uneven),
    "run that returns None": lambda strategy: strategy.run(lambda: None),
    "run that returns a structure": ran(nested_result, vectors),
    "run that all-reduces": ran(all_reduced, vectors),
    "run that all-reduces in a function": in_function(
        ran(all_reduced, vectors)
    ),
    "run that merges": ran(merged, vectors),
    "run that assigns": weight_after_steps,
    **{
        f"reduce {op} of {name} over axis {axis}": reduced(op, values, axis)
        for op in ("SUM", "MEAN")
        for name, values, axes in (
            ("scalars", scalars, [None]),
            ("vectors", vectors, [None, 0, -1]),
            ("matrices", matrices, [None, 0, 1, -1]),
            ("uneven values", uneven, [0]),
        )
        for axis in axes
    },
    "reduce by enumeration": reduced(MEAN, vectors, 0),
    "reduce in a function": in_function(reduced(SUM, vectors, None)),
    "reduce by axis in a function": in_function(reduced("MEAN", uneven, 0)),
    "reduce what run returned": in_function(
        lambda strategy: strategy.reduce(
            "MEAN", strategy.run(double, args=(vectors(strategy),)), axis=0
        )
    ),
    "reduce a structure": reduced("SUM", nested, None),
    "reduce a structure to its mean": reduced("MEAN", nested, None),
    "reduce a structure in a function": in_function(
        reduced("SUM", nested, None)
    ),
    "reduce nothing": reduced("SUM", lambda _: [], None),
    "local results of a tensor": lambda strategy: (
        strategy.experimental_local_results(tf.constant(1.0))
    ),
    "local results of a structure": lambda strategy: (
        strategy.experimental_local_results(nested(strategy))
    ),
    "gather": lambda strategy: strategy.gather(vectors(strategy), axis=0),
    "gather uneven values": lambda strategy: strategy.gather(
        uneven(strategy), axis=0
    ),
    "gather by another axis": lambda strategy: strategy.gather(
        matrices(strategy), axis=1
    ),
    "scope": scope,
    "replicas": lambda strategy: strategy.num_replicas_in_sync,
    "devices": lambda strategy: strategy.extended.worker_devices,
    "batches of a dataset": dataset_batches,
    "batches of a dataset made by a function": datasets_from_function,
}

ERRORS = {
    "run that raises": (
        ran(lambda: 1 / 0),
        ZeroDivisionError,
        "division by zero",
    ),
    "run without a tuple of arguments": (
        lambda strategy: strategy.run(double, tf.constant(1.0)),
        ValueError,
        "positional args must be a list or tuple",
    ),
    "reduce by an unknown name": (
        reduced("PROD", vectors, None),
        ValueError,
        "'PROD' is not a valid ReduceOp",
    ),
    "reduce a number": (
        reduced("SUM", lambda _: 1.0, None),
        ValueError,
        "A non-DistributedValues value 1.0 cannot be reduced",
    ),
    "reduce over an axis that is not there": (
        reduced("SUM", vectors, 1),
        ValueError,
        "Invalid reduction dimension 1 for input with 1 dimensions",
    ),
    "reduce scalars over a last axis": (
        reduced("MEAN", scalars, -1),
        ValueError,
        "Invalid reduction dimension -1 for input with 0 dimensions",
    ),
    "reduce a structure over an axis": (
        reduced("MEAN", nested, 0),
        TypeError,
        "Expected any non-tensor type, but got a tensor instead",
    ),
    "reduce in replica context": (
        ran(
            lambda: tf.distribute.get_strategy().reduce(
                "SUM", tf.constant(1.0), axis=None
            )
        ),
        RuntimeError,
        "in cross-replica context, use get_replica_context",
    ),
}


@pytest.fixture(scope="module")
def plain():
    return tf.distribute.MirroredStrategy(
        DEVICES, tf.distribute.ReductionToOneDevice()
    )


@pytest.fixture(scope="module")
def ours():
    return tfdp.MirroredStrategy(DEVICES)


def as_numpy(result):
    return tf.nest.map_structure(
        lambda leaf: leaf.numpy() if hasattr(leaf, "numpy") else leaf, result
    )


def test_both_reduce_on_one_device(plain, ours):
    for strategy in (plain, ours):
        assert isinstance(
            strategy.extended._cross_device_ops,
            tf.distribute.ReductionToOneDevice,
        )


def assert_same_answer(plain, ours, call):
    expected, actual = as_numpy(call(plain)), as_numpy(call(ours))
    tf.nest.assert_same_structure(expected, actual)
    for e, a in zip(
        tf.nest.flatten(expected), tf.nest.flatten(actual), strict=True
    ):
        assert type(a) is type(e)
        np.testing.assert_array_equal(a, e)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_the_answer_is_that_of_tensorflow(plain, ours, call):
    assert_same_answer(plain, ours, call)


@pytest.mark.parametrize("around", [lambda call: call, in_function])
def test_a_tf_function_is_converted_by_autograph(plain, ours, around):
    assert_same_answer(plain, ours, around(ran(tf.function(branch), vectors)))


@pytest.mark.parametrize(
    ("call", "error", "message"), ERRORS.values(), ids=ERRORS.keys()
)
def test_the_error_is_that_of_tensorflow(plain, ours, call, error, message):
    for strategy in (plain, ours):
        with pytest.raises(error, match=re.escape(message)):
            call(strategy)


@pytest.mark.parametrize("op", ["SUM", "MEAN"])
def test_scalars_are_reduced_over_axis_0_where_tensorflow_fails(
    plain, ours, op
):
    with pytest.raises(ValueError, match="Invalid reduction dimension 0"):
        plain.reduce(op, scalars(plain), axis=0)
    expected = plain.reduce(op, scalars(plain), axis=None)
    assert float(ours.reduce(op, scalars(ours), axis=0)) == float(expected)


def test_a_strategy_of_tfdp_is_one_of_tensorflow(ours):
    assert isinstance(ours, tf.distribute.MirroredStrategy)
    assert issubclass(
        tfdp.MultiWorkerMirroredStrategy,
        tf.distribute.MultiWorkerMirroredStrategy,
    )


def test_a_tf_function_is_not_traced_anew_by_every_run(plain, ours):
    def traces(strategy):
        traced = []

        @tf.function
        def function(x):
            traced.append(x)
            return x + 1.0

        for _ in range(3):
            strategy.run(function, args=(vectors(strategy),))
        return len(traced)

    assert traces(ours) <= traces(plain)
