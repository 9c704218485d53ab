"""Trains as one of several workers, whose steps take unequal times."""

import contextlib
import dataclasses
import io

import keras
import problem

import tfdp

strategy = tfdp.MultiWorkerMirroredStrategy()


class Clock(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.now = 0.0

    def __call__(self):
        return self.now

    def on_train_batch_begin(self, batch, logs=None):
        self.now += 0.5 * (strategy.worker_index + 1)


with strategy.scope():
    model = problem.make_model()
    optimizer = tfdp.DistributedOptimizer(keras.optimizers.SGD(0.05))
    model.compile(optimizer, "mse")
clock = Clock()
monitor = tfdp.callbacks.ThroughputMonitor(clock=clock)
with contextlib.redirect_stdout(io.StringIO()) as printed:
    history = model.fit(
        problem.dataset(250, problem.GLOBAL_BATCH),
        epochs=2,
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel(), monitor, clock],
    ).history
tfdp.testing.report(
    {
        "history": history,
        "rates": dataclasses.asdict(monitor.rates),
        "own_samples": optimizer.samples_by_replica(),
        "printed": printed.getvalue(),
    }
)
