"""One `fit`, looked at by several contracts."""

import types

import keras
import numpy as np
import pytest
from watched_fit import Asking, Placing, Recording

import tfdp


@pytest.fixture(scope="module")
def in_fit():
    """What Keras did in one `fit` with validation, and one `predict`."""
    strategy = Recording()
    with strategy.scope():
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    x = np.arange(16, dtype="float32").reshape(8, 2)
    y = np.arange(8, dtype="float32")[:, np.newaxis]
    asking = Asking()
    others = [keras.callbacks.TerminateOnNaN()]
    fit = {"batch_size": 4, "verbose": 0, "callbacks": [*others, asking]}
    model.fit(x, y, validation_data=(x, y), **fit)
    steps = {"fit": list(strategy.given_to_run)}
    strategy.given_to_run.clear()
    model.predict(x, batch_size=4, verbose=0)
    steps["predict"] = list(strategy.given_to_run)
    return types.SimpleNamespace(
        strategy=strategy,
        model=model,
        x=x,
        y=y,
        asking=asking,
        others=others,
        steps=steps,
    )


@pytest.fixture(scope="module")
def placing():
    """What callbacks saw in a `fit` of a tfdp strategy's model."""
    strategy = tfdp.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    seen = []

    class Placed(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            seen.append(("begin", self.model, self.params["epochs"]))

        def on_epoch_end(self, epoch, logs=None):
            seen.append(("end", self.model, epoch))

    x, y = np.ones((8, 2), "float32"), np.ones((8, 1), "float32")
    callback = Placing(Placed())
    fit = {"batch_size": 4, "verbose": 0, "validation_data": (x, y)}
    model.fit(x, y, callbacks=[callback], **fit)
    return types.SimpleNamespace(callback=callback, model=model, seen=seen)
