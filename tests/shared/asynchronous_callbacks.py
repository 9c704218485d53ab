"""Workers that do not wait, and every callback at once."""

import pathlib

import asynchronous_fit
import keras
import numpy as np

import tfdp


def callbacks_in(folder):
    """All callbacks that can be there beside each other."""
    return [
        tfdp.callbacks.LearningRateMonitor(),
        tfdp.callbacks.LossScaleMonitor(),
        keras.callbacks.TerminateOnNaN(),
        keras.callbacks.LearningRateScheduler(
            lambda epoch, rate: rate * 0.5 if epoch else rate
        ),
        keras.callbacks.ReduceLROnPlateau(
            "loss", patience=1, min_delta=9.0, factor=0.5
        ),
        keras.callbacks.EarlyStopping(
            "val_loss",
            patience=1,
            start_from_epoch=1,
            min_delta=9.0,
            restore_best_weights=True,
        ),
        keras.callbacks.SwapEMAWeights(),
        keras.callbacks.ModelCheckpoint(
            pathlib.Path(folder, "model-{epoch}.keras")
        ),
        keras.callbacks.CSVLogger(pathlib.Path(folder, "log.csv")),
        tfdp.callbacks.RunLogger(pathlib.Path(folder, "run"), every=2),
    ]


def train(folder):
    """Trains with all of them; returns what this worker has come to."""
    strategy = tfdp.AsynchronousStrategy(1)
    with strategy.scope():
        model = asynchronous_fit.make_model()
        model.compile(
            tfdp.DistributedOptimizer(
                keras.optimizers.Adam(0.01, use_ema=True, ema_momentum=0.5)
            ),
            "mse",
        )
    samples = asynchronous_fit.samples()
    history = model.fit(
        *samples,
        batch_size=asynchronous_fit.BATCH,
        epochs=6,
        shuffle=False,
        verbose=0,
        validation_data=samples,
        callbacks=[
            tfdp.callbacks.DataParallel(),
            *callbacks_in(folder),
        ],
    )
    found = {
        "weights": [w.tolist() for w in model.get_weights()],
        "history": {
            key: np.asarray(values).tolist()
            for key, values in history.history.items()
        },
        "iterations": int(model.optimizer.iterations.numpy()),
    }
    if strategy.is_chief:
        found["rates"] = strategy.exchange.statistics()["learning_rates"]
    return found
