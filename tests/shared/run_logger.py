"""Two workers, each told to log to a folder of its own."""

import pathlib
import sys

import keras
import problem

import tfdp

strategy = tfdp.MultiWorkerMirroredStrategy()
folder = pathlib.Path(sys.argv[1])
name = "chief" if strategy.is_chief else "other"
with strategy.scope():
    model = problem.make_model()
    model.compile(
        tfdp.DistributedOptimizer(
            keras.optimizers.SGD(tfdp.WarmupSchedule(0.1, 8)),
            accumulation_steps=2,
        ),
        "mse",
    )
history = model.fit(
    problem.dataset(96, 16),
    epochs=2,
    verbose=0,
    callbacks=[
        tfdp.callbacks.DataParallel(),
        tfdp.callbacks.LearningRateMonitor(),
        tfdp.callbacks.LossScaleMonitor(),
        tfdp.callbacks.RunLogger(folder / name, every=2),
        keras.callbacks.CSVLogger(folder / f"{name}.csv"),
    ],
).history
tfdp.testing.report(history)
