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
monitor = tfdp.callbacks.ThroughputMonitor(verbose=2, clock=clock)
with contextlib.redirect_stdout(io.StringIO()) as printed:
    history = model.fit(
        problem.dataset(250, problem.GLOBAL_BATCH),
        epochs=2,
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel(), monitor, clock],
    ).history


class Listener(keras.callbacks.Callback):
    """Hears the windows on the chief alone."""

    def on_train_begin(self, logs=None):
        self.windows = []
        if strategy.is_chief:
            monitor.listen(lambda window: self.windows.append(window.update))


def refused():
    """Gives the chief alone a monitor; returns the error."""
    only = [tfdp.callbacks.ThroughputMonitor()] if strategy.is_chief else []
    try:
        model.fit(
            problem.dataset(64, problem.GLOBAL_BATCH),
            verbose=0,
            callbacks=[tfdp.callbacks.DataParallel(), *only],
        )
    except RuntimeError as error:
        return str(error)
    return ""


first = {
    "history": history,
    "rates": dataclasses.asdict(monitor.rates),
    "own_samples": optimizer.samples_by_replica(),
    "printed": printed.getvalue(),
}
monitor = tfdp.callbacks.ThroughputMonitor(window=2, verbose=0)
listener = Listener()
model.fit(
    problem.dataset(5 * 64, problem.GLOBAL_BATCH),
    verbose=0,
    callbacks=[tfdp.callbacks.DataParallel(), monitor, listener],
)
tfdp.testing.report(
    {**first, "refused": refused(), "windows": listener.windows}
)
