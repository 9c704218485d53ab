"""Trains a model of many weights on few samples, as one of several workers."""

import statistics
import time

import keras
import numpy as np
import tensorflow as tf

import tfdp

WIDTH = 1500
LAYERS = 4
UPDATES = 12

strategy = tfdp.MultiWorkerMirroredStrategy()


def seconds_of(function):
    """Median time of a call, once a graph is made."""
    function()
    seconds = []
    for _ in range(UPDATES):
        strategy.barrier()
        begin = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


with strategy.scope():
    model = keras.Sequential(
        [
            keras.Input((WIDTH,)),
            *(keras.layers.Dense(WIDTH, use_bias=False) for _ in range(LAYERS)),
        ]
    )
    optimizer = tfdp.DistributedOptimizer(keras.optimizers.SGD(1e-6))
    model.compile(optimizer, "mse")
monitor = tfdp.callbacks.ThroughputMonitor(warmup_updates=3, verbose=0)
x = np.ones((4 * UPDATES, WIDTH), "float32")
model.fit(
    tf.data.Dataset.from_tensor_slices((x, x)).batch(4),
    verbose=0,
    callbacks=[tfdp.callbacks.DataParallel(), monitor],
)


class Late(keras.callbacks.Callback):
    """Keeps the second worker from its next step."""

    def on_train_batch_end(self, batch, logs=None):
        if strategy.worker_index == 1:
            time.sleep(0.2)


with strategy.scope():
    small = keras.Sequential([keras.Input((WIDTH,)), keras.layers.Dense(1)])
    small.compile(tfdp.DistributedOptimizer(keras.optimizers.SGD(1e-6)), "mse")
late = tfdp.callbacks.ThroughputMonitor(verbose=0)
small.fit(
    tf.data.Dataset.from_tensor_slices((x, x[:, :1])).batch(4),
    verbose=0,
    callbacks=[tfdp.callbacks.DataParallel(), late, Late()],
)


@tf.function
def reduced():
    def on_replica():
        context = tf.distribute.get_replica_context()
        gradients = [tf.ones((WIDTH, WIDTH)) for _ in range(LAYERS)]
        return context.all_reduce("SUM", gradients)[0][0, 0]

    return strategy.run(on_replica)


bare = seconds_of(reduced)
updates = monitor.rates.updates
tfdp.testing.report(
    {
        "limit": monitor.limit().kind,
        "words": str(monitor.limit()),
        "communication": monitor.total.breakdown.communication[0] / updates,
        "share": monitor.total.breakdown.share("communication"),
        "bare": bare,
        "late": [late.limit().kind, str(late.limit())],
        "waiting": late.total.breakdown.waiting,
        "between": late.total.breakdown.between,
        "late updates": late.rates.updates,
    }
)
