"""Workers that do not wait, one of which is killed, and what they come to."""

import json
import os
import pathlib
import signal
import time

import asynchronous_fit
import keras

import tfdp

EPOCHS = 3


class KillAt(keras.callbacks.Callback):
    """Kills a worker, once, after a batch of an epoch."""

    def __init__(self, mark, epoch, batch):
        super().__init__()
        self.mark = pathlib.Path(mark)
        self.place = epoch, batch

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == self.place and not self.mark.exists():
            self.mark.write_text(str(time.time()))
            os.kill(os.getpid(), signal.SIGKILL)


class Log(keras.callbacks.Callback):
    """Writes down what the server has logged, and waits for all others."""

    def __init__(self, folder, strategy):
        super().__init__()
        self.file = pathlib.Path(folder, f"log-{os.getpid()}.json")
        self.strategy = strategy

    def on_train_batch_begin(self, batch, logs=None):
        everybody = set(range(self.strategy.size))
        until = time.monotonic() + 60
        while time.monotonic() < until:
            living = self.strategy.exchange.statistics()["living"]
            if set(living) >= everybody:
                break
            time.sleep(0.05)

    def on_train_batch_end(self, batch, logs=None):
        log = [list(row) for row in self.strategy.exchange.log()]
        self.file.write_text(json.dumps(log))


def make_model():
    model = asynchronous_fit.make_model()
    model.add(keras.layers.BatchNormalization())
    return model


def train(folder, kills=(), normalizes=False):
    """Trains; returns what this worker has come to.

    Args:
        folder: Where everything is written.
        kills: Lists of worker, epoch and batch.
        normalizes: Whether the model has batch statistics.
    """
    strategy = tfdp.AsynchronousStrategy(1, heartbeat_timeout=2.0)
    asynchronous_fit.Noted(strategy, folder)
    with strategy.scope():
        model = make_model() if normalizes else asynchronous_fit.make_model()
        model.compile(
            tfdp.DistributedOptimizer(asynchronous_fit.OPTIMIZERS["AdamW"]()),
            "mse",
        )
    stopping = keras.callbacks.EarlyStopping("loss", patience=9, min_delta=9.0)
    # Of the rate before, which who comes back must have too.
    scheduler = keras.callbacks.LearningRateScheduler(
        lambda epoch, rate: rate * 0.5 if normalizes and epoch else rate
    )
    callbacks = [tfdp.callbacks.DataParallel(), stopping, scheduler]
    if strategy.is_chief:
        callbacks.append(Log(folder, strategy))
    callbacks += [
        KillAt(pathlib.Path(folder, f"killed-{worker}"), epoch, batch)
        for worker, epoch, batch in kills
        if worker == strategy.worker_index
    ]
    history = model.fit(
        *asynchronous_fit.samples(),
        batch_size=asynchronous_fit.BATCH,
        epochs=EPOCHS,
        shuffle=False,
        verbose=0,
        callbacks=[
            *callbacks,
            tfdp.callbacks.BackupAndRestore(
                pathlib.Path(folder, "backups"), save_freq=1
            ),
        ],
    )
    found = {
        "weights": [w.tolist() for w in model.get_weights()],
        "iterations": int(model.optimizer.iterations.numpy()),
        "history": history.history,
        "epochs": history.epoch,
        "patience": [stopping.wait, float(stopping.best)],
    }
    if strategy.is_chief:
        found["log"] = [list(row) for row in strategy.exchange.log()]
    return found
