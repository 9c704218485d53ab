"""What staleness costs in loss, on the tasks of `local_updates.py`.

Workers, the last of which is three times as slow, train in virtual time: when
each reads and updates, the engine's own rules say (`virtual_time.py`). The
gradients and the updates are real, on one device.
"""

import statistics

import keras
import local_updates
import numpy as np
import tensorflow as tf
from apart.virtual_time import Read, VirtualTime
from harness.table import print_row
from large_batch import tasks

import tfdp

BATCH = 64
SLOW = 3


def optimizer(task, updates, scale):
    """Returns the optimizer of a task, with a warm-up and a cosine decay.

    Args:
        task: `"digits"` or `"text"`.
        updates: How many it will make.
        scale: Factor of the rate.
    """
    name, rate = local_updates.INNER[task]
    warmup = round(local_updates.WARMUP * updates)
    schedule = tfdp.WarmupSchedule(
        keras.optimizers.schedules.CosineDecay(scale * rate, updates - warmup),
        warmup,
    )
    options = {"momentum": 0.9} if name == "SGD" else {}
    return getattr(keras.optimizers, name)(schedule, **options)


class Served:
    """A model, and the weights that gradients are applied to.

    Args:
        task: `"digits"` or `"text"`.
        updates: How many it will see, for the schedule.
        scale: Factor of the rate.
    """

    def __init__(self, task, updates, scale):
        self._make = getattr(tasks, f"{task}_model")
        self._model = self._make()
        self._loss = keras.losses.SparseCategoricalCrossentropy(True)
        self._optimizer = optimizer(task, updates, scale)
        self._variables = self._model.trainable_variables
        self._optimizer.build(self._variables)
        self._first = {v.path: v.numpy() for v in self._optimizer.variables}
        self._update = tf.function(self._update_in_graph)

    def begin(self, seed):
        """Begins anew, without another graph."""
        keras.utils.set_random_seed(seed)
        fresh = self._make().variables
        for variable, other in zip(self._model.variables, fresh, strict=True):
            variable.assign(other)
        for variable in self._optimizer.variables:
            variable.assign(self._first[variable.path])

    def read(self):
        """Returns the weights."""
        return [tf.identity(variable.value) for variable in self._variables]

    def update(self, read, x, y):
        """Applies the gradient that a batch has at the weights of a read."""
        self._update(read, tf.constant(x), tf.constant(y))

    def judged(self, x, y):
        """Returns the accuracy and the loss of samples."""
        outputs = tf.constant(self._model.predict(x, 256, verbose=0))
        accuracy = keras.metrics.sparse_categorical_accuracy(y, outputs)
        return float(np.mean(accuracy)), float(self._loss(y, outputs))

    def _update_in_graph(self, read, x, y):
        newest = self.read()
        self._assign(read)
        with tf.GradientTape() as tape:
            loss = self._loss(y, self._model(x, training=True))
        gradients = tape.gradient(loss, self._variables)
        self._assign(newest)
        self._optimizer.apply(gradients)

    def _assign(self, values):
        for variable, value in zip(self._variables, values, strict=True):
            variable.assign(value)


def trained(served, task, seed, epochs, workers=1, bound=None):
    """Trains, and returns what came out, and what it has taken.

    Args:
        served: A model that fits; it is begun anew.
        task: `"digits"` or `"text"`.
        seed: Of the weights, and of the order of samples.
        epochs: How many.
        workers: Number of workers.
        bound: The largest staleness; `None` for workers that train together,
            whose batch is as many times as large.
    """
    (x, y), held_out = getattr(tasks, task)()
    served.begin(seed)
    seconds = [1] * (workers - 1) + [SLOW if workers > 1 else 1]
    batch = BATCH
    if bound is None:
        # As one, as slow as the slowest.
        seconds, batch, bound = [max(seconds)], workers * BATCH, 0
    batches = -(-len(x) // batch)
    orders = [
        np.random.default_rng([seed, epoch]).permutation(len(x))
        for epoch in range(epochs)
    ]
    time = VirtualTime(bound, seconds, batches, epochs)
    reads = {}
    for event in time:
        if isinstance(event, Read):
            reads[event.worker] = served.read()
        else:
            begin = event.number * batch
            rows = orders[event.epoch][begin : begin + batch]
            served.update(reads[event.worker], x[rows], y[rows])
    accuracy, loss = served.judged(*held_out)
    staleness = [update.staleness for update in time.staleness.log]
    return {
        "accuracy": 100 * accuracy,
        "loss": loss,
        "staleness": staleness,
        "seconds": time.now,
    }


def print_prices(task, bounds, workers, seeds, epochs):
    """Prints the rows of a task, each of as many runs as there are seeds."""
    samples = len(getattr(tasks, task)()[0][0])
    updates = epochs * -(-samples // BATCH)
    alone = Served(task, updates, 1)

    def runs(*arguments, served=alone):
        return [
            trained(served, task, seed, epochs, *arguments)
            for seed in range(seeds)
        ]

    print_row("one device", "", "", "", *spreads(runs()), "", "")
    for count in workers:
        name = f"{count} workers"
        # As the study of large batches scales rates, and with its warm-up.
        scale = count ** {"digits": 1, "text": 0.5}[task]
        fewer = epochs * -(-samples // (count * BATCH))
        together = runs(count, served=Served(task, fewer, scale))
        print_row(name, "synchronous", "", "1.00", *spreads(together), "", "")
        for bound in bounds:
            apart = runs(count, bound)
            seconds = apart[0]["seconds"]
            scale = 1 / (1 + statistics.mean(apart[0]["staleness"]))
            lower = runs(count, bound, served=Served(task, updates, scale))
            print_row(
                name,
                bound,
                described(apart),
                f"{together[0]['seconds'] / seconds:.2f}",
                *spreads(apart),
                *spreads(lower),
            )


def described(runs):
    """Returns the staleness of the first of some runs, and its mean."""
    staleness = runs[0]["staleness"]
    return f"{statistics.mean(staleness):.2f}, {max(staleness)}"


def spreads(runs):
    """Returns the medians of what came out of runs, and the ranges."""
    return [
        local_updates.spread([run["accuracy"] for run in runs], "%", 1),
        local_updates.spread([run["loss"] for run in runs], "", 3),
    ]
