"""Two workers that save by Keras's OrbaxCheckpoint, to the same folder."""

import os
import pathlib
import sys

import fake_orbax
import keras
import problem

import tfdp

fake_orbax.install()
folder = pathlib.Path(sys.argv[1])
strategy = tfdp.auto_strategy()


def fit(name, wrap, **options):
    with strategy.scope():
        model = problem.make_model()
        model.compile(
            tfdp.DistributedOptimizer(
                problem.OPTIMIZERS["sgd"](), accumulation_steps=2
            ),
            "mse",
            metrics=["mae"],
        )
    checkpoint = keras.callbacks.OrbaxCheckpoint(
        str(folder / name), max_to_keep=None, **options
    )
    history = model.fit(
        problem.dataset(64, 16),
        epochs=2,
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel(), wrap(checkpoint)],
    )
    return [float(w.numpy().sum()) for w in model.trainable_variables], history


weights, history = fit("epochs", lambda callback: callback)
fit("batches", tfdp.callbacks.ChiefOnly, save_freq=1)
strategy.barrier()
tfdp.testing.report(
    {
        "process": os.getpid(),
        "weights": weights,
        "loss": history.history["loss"],
    }
)
