"""Fused kernels: the numbers of Keras's own operations."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdp.synchronization.fused import add_weighted, use_fused_update

FUSED = {
    "SGD": lambda: keras.optimizers.SGD(0.1),
    "Adam": lambda: keras.optimizers.Adam(0.01, beta_1=0.8),
    "AdamW": lambda: keras.optimizers.AdamW(
        keras.optimizers.schedules.ExponentialDecay(0.01, 2, 0.5)
    ),
    "momentum": lambda: keras.optimizers.SGD(0.1, momentum=0.9),
    "nesterov": lambda: keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    "schedule": lambda: keras.optimizers.SGD(
        keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5), momentum=0.5
    ),
    "weight decay": lambda: keras.optimizers.SGD(
        0.1, momentum=0.9, weight_decay=0.1
    ),
}


class OwnSGD(keras.optimizers.SGD):
    pass


KERAS = {
    "Adam with amsgrad": lambda: keras.optimizers.Adam(0.01, amsgrad=True),
    "RMSprop": lambda: keras.optimizers.RMSprop(0.01),
    "subclass": lambda: OwnSGD(0.1, momentum=0.9),
}


def updated(optimizer, gradients, dtype="float32"):
    """A variable after updates in a graph, and the graph's kernels."""
    variable = keras.Variable(np.linspace(-1, 1, 12).reshape(4, 3), dtype=dtype)
    optimizer.build([variable])

    @tf.function
    def update(gradient):
        optimizer.apply([gradient], [variable])

    for gradient in gradients:
        update(gradient)
    graph = update.get_concrete_function(gradients[0]).graph.as_graph_def()
    nodes = [
        *graph.node,
        *(node for f in graph.library.function for node in f.node_def),
    ]
    kernels = {node.op for node in nodes if node.op.startswith("ResourceApply")}
    return variable.numpy().astype("float64"), kernels


def gradients(dtype="float32"):
    random = np.random.default_rng(0)
    return [
        tf.constant(random.normal(size=(4, 3)), dtype=dtype) for _ in range(6)
    ]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", FUSED)
def test_updates_are_those_of_keras(name, dtype):
    expected, without = updated(FUSED[name](), gradients(dtype), dtype)
    fused = FUSED[name]()
    use_fused_update(fused)
    actual, kernels = updated(fused, gradients(dtype), dtype)
    assert not without
    assert len(kernels) == 1
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", KERAS)
def test_others_keep_their_own(name):
    optimizer = KERAS[name]()
    use_fused_update(optimizer)
    actual, kernels = updated(optimizer, gradients())
    assert not kernels
    np.testing.assert_array_equal(
        actual, updated(KERAS[name](), gradients())[0]
    )


@pytest.mark.parametrize("name", FUSED)
def test_what_no_kernel_is_for_goes_the_way_of_keras(name):
    rows = tf.constant([0, 2])
    slices = [
        tf.IndexedSlices(tf.gather(each, rows), rows, tf.constant([4, 3]))
        for each in gradients()
    ]
    for given, dtype in (
        (slices, "float32"),
        (gradients("bfloat16"), "bfloat16"),
    ):
        fused = FUSED[name]()
        use_fused_update(fused)
        actual, kernels = updated(fused, given, dtype)
        assert not kernels
        expected, _ = updated(FUSED[name](), given, dtype)
        np.testing.assert_array_equal(actual, expected)


def test_updates_of_one_step_count_apart():
    """What one variable's update has computed is not that of the next."""

    def trained(change):
        optimizer = keras.optimizers.Adam(0.1)
        variables = [keras.Variable(np.ones(3, "float32")) for _ in range(3)]
        optimizer.build(variables)
        change(optimizer)

        @tf.function
        def step(gradient):
            optimizer.apply([gradient, gradient], variables[:2])
            optimizer.apply([gradient], variables[2:])

        for gradient in gradients():
            step(gradient[0])
        return np.stack([variable.numpy() for variable in variables])

    expected = trained(lambda optimizer: None)
    assert np.abs(expected[0] - expected[2]).max() > 1e-3
    np.testing.assert_allclose(
        trained(use_fused_update), expected, rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("size", [10, 2**17])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_sums_are_weighted(size, dtype):
    total = tf.Variable(tf.ones(size))
    add = tf.function(add_weighted)
    example = tf.ones(size, dtype)
    graph = add.get_concrete_function(total, example, tf.constant(1.0)).graph
    definition = str(graph.as_graph_def())
    is_fused = "ResourceApplyGradientDescent" in definition
    assert is_fused == (size > 10 and dtype == "float32")
    add(total, tf.fill((size,), tf.constant(2, dtype)), tf.constant(3.0))
    np.testing.assert_array_equal(total, np.full(size, 7.0))
    nothing = tf.fill((size,), tf.constant(np.nan, dtype))
    add(total, nothing, tf.constant(0.0))
    np.testing.assert_array_equal(total, np.full(size, 7.0))


def test_slices_are_summed_too():
    total = tf.Variable(tf.ones((2**17, 1)))
    slices = tf.IndexedSlices(
        tf.constant([[1.0], [2.0], [4.0]]),
        tf.constant([5, 7, 5]),
        tf.constant([2**17, 1]),
    )
    add_weighted(total, slices, tf.constant(2.0))
    np.testing.assert_array_equal(
        total.numpy()[4:9, 0], np.array([1, 11, 1, 5, 1])
    )
