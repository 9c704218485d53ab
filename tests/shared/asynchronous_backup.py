"""Workers that do not wait, of which the chief backs up, and is lost."""

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
    """Kills a worker once, after so many batches of an epoch."""

    def __init__(self, folder, worker, epoch, batch):
        super().__init__()
        self.mark = pathlib.Path(folder, f"killed-{worker}")
        self.place = epoch, batch

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == self.place and not self.mark.exists():
            self.mark.write_text(str(time.time()))
            os.kill(os.getpid(), signal.SIGKILL)


class Log(keras.callbacks.Callback):
    """Writes the server's log down after each update of the chief."""

    def __init__(self, folder, strategy):
        super().__init__()
        self.file = pathlib.Path(folder, f"log-{os.getpid()}.json")
        self.strategy = strategy

    def on_train_batch_end(self, batch, logs=None):
        log = [list(row) for row in self.strategy.exchange.log()]
        self.file.write_text(json.dumps(log))


def make_model(strategy, optimizer, accumulation=1):
    with strategy.scope():
        model = asynchronous_fit.make_model()
        model.add(keras.layers.BatchNormalization())
        model.compile(
            tfdp.DistributedOptimizer(
                asynchronous_fit.OPTIMIZERS[optimizer](),
                accumulation_steps=accumulation,
            ),
            "mse",
            metrics=["mae"],
        )
    return model
