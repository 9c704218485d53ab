"""Fits that an error ends, and that a program goes on after."""

import contextlib

import asynchronous_fit
import keras

import tfdp


class Fails(keras.callbacks.Callback):
    """Raises once, at its third call of a hook."""

    def __init__(self, hook, error):
        super().__init__()
        self.calls = 0

        def fail(index, logs=None):
            self.calls += 1
            if self.calls == 3:
                raise error

        setattr(self, hook, fail)


def fit(model, callbacks, epochs=2, is_plain=False):
    x, y = asynchronous_fit.samples()
    edges = [] if is_plain else [tfdp.callbacks.DataParallel()]
    return model.fit(
        x,
        y,
        batch_size=asynchronous_fit.BATCH,
        shuffle=False,
        verbose=0,
        epochs=epochs,
        callbacks=[*edges, *callbacks],
    )


def train(failing):
    """One of two workers: its first fit may fail, and the second does not."""
    strategy = tfdp.AsynchronousStrategy(max_staleness=1)
    with strategy.scope():
        model = asynchronous_fit.make_model()
        model.compile(
            tfdp.DistributedOptimizer(keras.optimizers.SGD(0.02)), "mse"
        )
    slow = asynchronous_fit.Slow(0.05)
    fails = Fails("on_train_batch_end", ValueError("its own"))
    found = {"caught": ""}
    is_failing = strategy.worker_index in failing
    try:
        fit(model, [slow, *[fails][: int(is_failing)]])
    except ValueError as error:
        found["caught"] = str(error)
    found["before"] = int(model.optimizer.iterations.numpy())
    found["losses"] = fit(model, [slow]).history["loss"]
    found["iterations"] = int(model.optimizer.iterations.numpy())
    found["weights"] = [w.tolist() for w in model.get_weights()]
    if strategy.is_chief:
        found["log"] = len(strategy.exchange.log())
    return found


def plainly(optimizer, failing, then=lambda model: None, epochs=4):
    """What plain Keras makes of a fit that fails, and one after it."""
    model = asynchronous_fit.make_model()
    model.compile(optimizer, "mse")
    with contextlib.suppress(ValueError, KeyboardInterrupt):
        fit(model, [failing], epochs, is_plain=True)
    then(model)
    fit(model, [], is_plain=True)
    return model
