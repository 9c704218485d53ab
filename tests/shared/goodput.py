"""Two workers train; one is killed in the middle of a step, once.

Arguments: a folder, and how many epochs. Each worker writes down every update.
"""

import os
import pathlib
import signal
import sys
import time

import elastic

import tfdp
from tfdp.callbacks import BackupAndRestore, DataParallel, RunLogger

folder, epochs = pathlib.Path(sys.argv[1]), int(sys.argv[2])
attempt = int(os.environ.get("TFDP_RESTART_COUNT", 0))
strategy = tfdp.auto_strategy()
with strategy.scope():
    model = elastic.model()
    model.compile(
        tfdp.DistributedOptimizer(
            elastic.optimizer("momentum"),
            accumulation_steps=elastic.MICRO_BATCHES,
        ),
        "mse",
    )


class Notes(elastic.Updates):
    """Counts what the optimizer has made, and kills worker 1 after eight."""

    def on_update(self, update):
        if strategy.is_chief:
            with (folder / f"updates-{attempt}").open("a") as file:
                file.write(f"{update}\n")
        time.sleep(0.1)
        if attempt == 0 and update == 8 and not strategy.is_chief:
            (folder / "killed").write_text(f"{time.time()}")
            os.kill(os.getpid(), signal.SIGKILL)


data = elastic.data(elastic.BATCH // elastic.MICRO_BATCHES)
model.fit(
    data,
    validation_data=data,
    epochs=epochs,
    verbose=0,
    callbacks=[
        DataParallel(),
        BackupAndRestore(folder / "backups", save_freq=5, most_pause=0),
        Notes(),
        RunLogger(folder / "run", every=4),
    ],
)
