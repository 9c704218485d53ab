"""One worker that trains with backups, and stamps each update with its time.

tfdp launch ... benchmarks/quick_return_worker.py NETWORK FOLDER
python benchmarks/quick_return_worker.py NETWORK FOLDER

Without a launcher it trains as plain Keras does, in one process.
"""

import contextlib
import os
import sys

import keras
from harness.networks import BATCH, inputs_and_labels, model
from harness.stamps import EVERY, Stamps


class Updates(keras.callbacks.Callback):
    """Stamps the end of each step, which is an update here."""

    def __init__(self, stamps):
        super().__init__()
        self.stamps = stamps

    def on_train_begin(self, logs=None):
        self.seen = int(self.model.optimizer.iterations.numpy())

    def on_train_batch_end(self, batch, logs=None):
        now = int(self.model.optimizer.iterations.numpy())
        # A step that only takes data makes none.
        if now > self.seen:
            self.seen = now
            self.stamps.update(now)


def main(network, folder):
    keras.utils.set_random_seed(1)
    backups = f"{folder}/backups"
    scope, batch, rank = contextlib.nullcontext(), BATCH, 0
    if "TF_CONFIG" in os.environ:
        import tfdp

        strategy = tfdp.auto_strategy()
        scope, rank = strategy.scope(), strategy.worker_index
        batch *= strategy.num_replicas_in_sync
        callbacks = [
            tfdp.callbacks.DataParallel(),
            tfdp.callbacks.BackupAndRestore(backups, save_freq=EVERY),
        ]
    else:
        callbacks = [keras.callbacks.BackupAndRestore(backups, EVERY)]
    with scope:
        optimizer = keras.optimizers.SGD(0.01, momentum=0.9)
        if "TF_CONFIG" in os.environ:
            optimizer = tfdp.DistributedOptimizer(optimizer)
        trained = model(keras, network)
        trained.compile(
            optimizer,
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
    x, y = inputs_and_labels(network, 0)
    trained.fit(
        x.repeat(100, 0),
        y.repeat(100, 0),
        batch_size=batch,
        epochs=10**6,
        verbose=0,
        callbacks=[*callbacks, Updates(Stamps(folder, rank))],
    )


main(*sys.argv[1:])
