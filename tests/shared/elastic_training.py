"""Trains with backups, and says each update.

Arguments: a folder, the optimizer, and seconds that an update takes at least.
"""

import pathlib
import sys
import time

import elastic
import numpy as np

import tfdp
from tfdp.callbacks import BackupAndRestore, DataParallel

folder = pathlib.Path(sys.argv[1])
seconds = float(sys.argv[3]) if sys.argv[3:] else 0.05
strategy = tfdp.auto_strategy()
with strategy.scope():
    model = elastic.model()
    optimizer = tfdp.DistributedOptimizer(
        elastic.optimizer(sys.argv[2]),
        accumulation_steps=elastic.MICRO_BATCHES,
    )
    model.compile(optimizer, "mse")


class Says(elastic.Updates):
    def on_update(self, update):
        if strategy.is_chief:
            print(f"update {update} of {strategy.num_workers}", flush=True)
        time.sleep(seconds)


history = model.fit(
    elastic.data(elastic.BATCH // elastic.MICRO_BATCHES),
    epochs=elastic.EPOCHS,
    verbose=0,
    callbacks=[
        DataParallel(),
        BackupAndRestore(folder / "backups", save_freq=1),
        Says(),
    ],
).history
if strategy.is_chief:
    np.savez(folder / "weights.npz", *model.get_weights())
    np.save(folder / "losses.npy", history["loss"])
