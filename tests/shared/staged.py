"""Models in stages, the same without, and what is where."""

import collections

import keras
import numpy as np
import tensorflow as tf
from problem import untuned

import tfdp

GROUPS = [["CPU:0", "CPU:1"], ["CPU:2", "CPU:3"]]
OPTIMIZERS = {
    "momentum": lambda: keras.optimizers.SGD(0.05, momentum=0.9),
    "adamw": lambda: keras.optimizers.AdamW(0.01, global_clipnorm=0.2),
    "adam": lambda: keras.optimizers.Adam(0.01),
}


def arrays(num_samples=97):
    random = np.random.default_rng(0)
    x = random.normal(size=(num_samples, 8)).astype("float32")
    y = random.normal(size=(num_samples, 1)).astype("float32")
    return x, y


def dataset(batch, data=None):
    data = tf.data.Dataset.from_tensor_slices(data or arrays())
    return untuned(data.batch(batch))


def dense():
    """What each of two stages consists of."""
    return [
        [
            keras.layers.Dense(
                12, "tanh", kernel_regularizer=keras.regularizers.L2(0.01)
            ),
            keras.layers.ActivityRegularization(l2=0.1),
            keras.layers.Dense(6, "tanh"),
        ],
        [keras.layers.Dense(4, "tanh"), keras.layers.Dense(1)],
    ]


def plain(make=dense, inputs=(8,), dtype=None):
    """One after another, as Keras does it."""
    keras.utils.set_random_seed(1)
    layers = [layer for stage in make() for layer in stage]
    return keras.Sequential([keras.Input(inputs, dtype=dtype), *layers])


def staged(micro_batches, make=dense, inputs=(8,), dtype=None):
    keras.utils.set_random_seed(1)
    stages = [tfdp.Stage(layers, i) for i, layers in enumerate(make())]
    pipeline = tfdp.Pipeline(stages, micro_batches)
    return keras.Sequential([keras.Input(inputs, dtype=dtype), pipeline])


def deviation(actual, expected):
    return max(
        float(np.max(np.abs(np.asarray(a) - np.asarray(e)), initial=0.0))
        for a, e in zip(actual, expected, strict=True)
    )


def devices(strategy, variable):
    """Kind and number of the devices of a variable's copies."""
    copies = strategy.experimental_local_results(
        getattr(variable, "value", variable)
        if isinstance(variable, keras.Variable)
        else variable
    )
    return [copy.device.rpartition("device:")[2] for copy in copies]


def products(strategy, model, batch):
    """How many matrix products of a step of training each device computes."""

    def step(data):
        return strategy.run(model.train_step, (data,))

    data = strategy.experimental_distribute_dataset(batch)
    function = tf.function(step).get_concrete_function(next(iter(data)))
    return collections.Counter(
        operation.device.rpartition("device:")[2]
        for operation in function.graph.get_operations()
        if operation.type == "MatMul"
    )
