"""One worker that trains with backups, and stamps each update with its time.

python benchmarks/quick_return_worker.py tfdp NETWORK FOLDER
python benchmarks/quick_return_worker.py keras NETWORK FOLDER
"""

import contextlib
import sys

import keras
from harness.networks import BATCH, inputs_and_labels, model
from harness.stamps import Stamps

EVERY = 10


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


def main(library, network, folder):
    keras.utils.set_random_seed(1)
    backups = f"{folder}/backups"
    scope, rank, callbacks = contextlib.nullcontext(), 0, []
    if library == "tfdp":
        import tfdp

        strategy = tfdp.auto_strategy()
        rank, scope = strategy.worker_index, strategy.scope()
        callbacks = [
            tfdp.callbacks.DataParallel(),
            tfdp.callbacks.BackupAndRestore(backups, save_freq=EVERY),
        ]
    else:
        callbacks = [keras.callbacks.BackupAndRestore(backups, EVERY)]
    with scope:
        optimizer = keras.optimizers.SGD(0.01, momentum=0.9)
        if library == "tfdp":
            optimizer = tfdp.DistributedOptimizer(optimizer)
        trained = model(keras, network)
        trained.compile(
            optimizer,
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
    x, y = inputs_and_labels(network, 0)
    trained.fit(
        x.repeat(2 * 100, 0),
        y.repeat(2 * 100, 0),
        batch_size=2 * BATCH if library == "tfdp" else BATCH,
        epochs=10**6,
        verbose=0,
        callbacks=[*callbacks, Updates(Stamps(folder, rank))],
    )


main(*sys.argv[1:])
