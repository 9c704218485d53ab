"""Asynchronous DiLoCo by `fit`, and what a server's log says it should do.

The replay knows nothing of tfdp's ways: it is one model of plain Keras for each
worker, and one for the server.
"""

import asynchronous_fit
import keras
import numpy as np
import tensorflow as tf
from asynchronous_fit import BATCH, make_model, samples

import tfdp

INNER = {
    "SGD": lambda: keras.optimizers.SGD(0.05),
    "momentum": lambda: keras.optimizers.SGD(0.05, momentum=0.9),
    "Adam": lambda: keras.optimizers.Adam(
        keras.optimizers.schedules.ExponentialDecay(0.02, 5, 0.8)
    ),
    "AdamW": lambda: keras.optimizers.AdamW(
        0.01, weight_decay=0.1, global_clipnorm=0.2
    ),
}
OUTER = {
    "identity": lambda: keras.optimizers.SGD(1.0),
    "SGD": lambda: keras.optimizers.SGD(0.5),
    "Nesterov": lambda: keras.optimizers.SGD(0.5, momentum=0.9, nesterov=True),
    "delayed": lambda: tfdp.DelayedNesterov(0.5, buffer_size=2),
}


class Noting:
    """Notes which batches each round of this worker is of, as they come."""

    def __init__(self, exchange):
        self.rounds, self.batches = [], []
        self._update = exchange.update
        exchange.update = self._noted

    def see(self, x):
        # The first sample says which batch it is.
        (number,) = np.nonzero((samples()[0] == x[0]).all(axis=1))[0] // BATCH
        self.batches.append(int(number))
        return x

    def _noted(self, *args, **kwargs):
        self.rounds.append(self.batches)
        self.batches = []
        return self._update(*args, **kwargs)


class Noted(keras.Sequential):
    """Has the batches of its steps noted."""

    def train_step(self, data):
        x, y = data
        seen = tf.numpy_function(self.noting.see, [x], x.dtype)
        seen.set_shape(x.shape)
        return super().train_step((seen, y))


def compiled(strategy, inner, outer, sync_every, *, noting=None, **settings):
    buffers = settings.pop("buffers", "maintain")
    with strategy.scope():
        model = Noted(make_model().layers)
        model.noting = noting or Noting(strategy.connect())
        way = tfdp.DiLoCo(OUTER[outer](), sync_every, buffers=buffers)
        optimizer = tfdp.DistributedOptimizer(
            INNER[inner](), synchronization=way, **settings
        )
        model.compile(optimizer, "mse")
    return model


def fit(model, epochs=2, callbacks=(), data=None, **kwargs):
    return model.fit(
        *(data or samples()),
        batch_size=BATCH,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel(), *callbacks],
        **kwargs,
    )


def train(bound, inner, outer, sync_every, slow=0.0):
    """Trains as one of several workers; returns what it has, and has done."""
    strategy = tfdp.AsynchronousStrategy(max_staleness=bound)
    model = compiled(strategy, inner, outer, sync_every)
    is_slow = strategy.worker_index == 1
    fit(model, callbacks=[asynchronous_fit.Slow(slow if is_slow else 0.0)])
    found = {
        "weights": [w.tolist() for w in model.get_weights()],
        "rounds": model.noting.rounds,
        "iterations": int(model.optimizer.iterations.numpy()),
    }
    if strategy.is_chief:
        found["log"] = [list(row) for row in strategy.exchange.log()]
    return found


class Worker:
    """A model that updates by itself, from whatever weights it is given."""

    def __init__(self, inner, batch_size=BATCH):
        self.batch_size = batch_size
        self.model = make_model()
        self.model.compile(INNER[inner](), "mse")

    def moved(self, weights, batches):
        x, y = samples()
        self.model.set_weights(weights)
        for number in batches:
            first = number * self.batch_size
            rows = slice(first, first + self.batch_size)
            self.model.train_on_batch(x[rows], y[rows])
        return [
            tf.constant(begun - now)
            for begun, now in zip(
                weights, self.model.get_weights(), strict=True
            )
        ]


def replayed(log, rounds, inner, outer, *, batch_size=BATCH, resets=False):
    """Makes the rounds of a log on one device; returns the last weights.

    Args:
        log: Rows of worker, its round, version read and version applied.
        rounds: The batches of each round, by worker.
        inner: Name of the inner optimizer.
        outer: Name of the outer one.
        batch_size: Samples of an update.
        resets: Whether each round begins with new slots.
    """
    variables, optimizer = make_model().trainable_variables, OUTER[outer]()
    optimizer.build(variables)
    apply = tf.function(lambda moved: optimizer.apply(moved, variables))
    workers = [Worker(inner, batch_size) for _ in rounds]
    versions = [[v.numpy() for v in variables]]
    for worker, step, read, applied in log:
        assert applied == len(versions) - 1
        if resets:
            workers[worker] = Worker(inner, batch_size)
        apply(workers[worker].moved(versions[read], rounds[worker][step]))
        versions.append([v.numpy() for v in variables])
    return versions[-1]
