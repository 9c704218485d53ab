"""Workers that are killed again and again, and what they have done."""

import json
import os
import pathlib
import time

import keras
import numpy as np

import tfdp

BATCH, BATCHES, SECONDS = 16, 60, 0.1


class Noted:
    """Writes which batches each update of a worker is of.

    Args:
        exchange: That of the worker, which sends updates through this.
        path: The file.
    """

    def __init__(self, exchange, path):
        self._read, self._update = exchange.read, exchange.update
        exchange.read, exchange.update = self.read, self.update
        self._file = path.open("a")
        self._version = None

    def read(self):
        return self._noted(self._read())

    def update(self, gradients, *, step, epoch, batches, then_read):
        # Before it is sent: after, it might be too late.
        row = [step, self._version, epoch, list(batches)]
        print(json.dumps(row), file=self._file, flush=True)
        return self._noted(
            self._update(
                gradients,
                step=step,
                epoch=epoch,
                batches=batches,
                then_read=then_read,
            )
        )

    def _noted(self, weights):
        if weights is not None:
            self._version = weights.version
        return weights


class UntilDeadline(keras.callbacks.Callback):
    """Ends with the epoch in which time is up; its steps take their time."""

    def __init__(self, seconds):
        super().__init__()
        self._end = time.monotonic() + seconds

    def on_train_batch_end(self, batch, logs=None):
        time.sleep(SECONDS)

    def on_epoch_end(self, epoch, logs=None):
        if time.monotonic() > self._end:
            self.model.stop_training = True


def samples(count):
    """Returns samples of 16 numbers, and what they add up to."""
    x = np.random.default_rng(0).normal(size=(count, 16)).astype("float32")
    return x, x.sum(1, keepdims=True)


def built():
    """Returns a model and its optimizer."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((16,)),
            keras.layers.Dense(8, "tanh"),
            keras.layers.Dense(1),
        ]
    )
    return model, keras.optimizers.Adam(0.001)


def train(folder, minutes, bound):
    """Trains as a worker, which may be killed; the chief says what came out."""
    folder = pathlib.Path(folder)
    strategy = tfdp.AsynchronousStrategy(int(bound))
    name = f"{strategy.worker_index}-{os.getpid()}"
    Noted(strategy.connect(), folder / f"{name}.jsonl")
    with strategy.scope():
        model, optimizer = built()
        model.compile(tfdp.DistributedOptimizer(optimizer), "mse")
    (folder / f"{name}.pid").touch()
    is_chief = strategy.is_chief
    history = model.fit(
        *samples(BATCHES * BATCH),
        batch_size=BATCH,
        epochs=10**6,
        shuffle=False,
        verbose=0,
        callbacks=[
            tfdp.callbacks.DataParallel(),
            UntilDeadline(60 * float(minutes) if is_chief else 1e9),
        ],
    )
    if is_chief:
        np.savez(
            folder / "found.npz",
            *model.get_weights(),
            log=np.array(strategy.exchange.log()),
            loss=history.history["loss"],
        )


def checked(folder, bound):
    """Compares what workers have noted with the log, and trains it again.

    Args:
        folder: Where they have left it.
        bound: The largest staleness.

    Returns:
        What was found, by name, as text.
    """
    found = dict(np.load(pathlib.Path(folder, "found.npz")))
    log, losses = found.pop("log").tolist(), found.pop("loss")
    noted = {}
    for path in pathlib.Path(folder).glob("*.jsonl"):
        worker = int(path.name.partition("-")[0])
        for line in path.read_text().splitlines():
            step, read, epoch, numbers = json.loads(line)
            noted[worker, step, read] = (epoch, *numbers)
    batches = [noted[tuple(row[:3])] for row in log]
    epochs = 1 + batches[-1][0]
    staleness = max(applied - read for _, _, read, applied in log)
    wanted = [(e, n) for e in range(epochs) for n in range(BATCHES)]
    again = _replayed(log, batches)
    difference = max(
        float(np.abs(one - other).max())
        for one, other in zip(found.values(), again, strict=True)
    )
    if sorted(batches) != wanted or staleness > bound:
        raise SystemExit("Some batch was seen twice or never, or too late.")
    return {
        "epochs ended": f"{epochs} of {len(losses)}",
        "updates": f"{len(log)}, of {epochs} x {BATCHES} batches",
        "batches seen twice, or never": "0",
        "largest staleness": f"{staleness}, of at most {bound}",
        "loss of the first and last epoch": (
            f"{losses[0]:.3f}, {losses[-1]:.5f}"
        ),
        "difference from the updates made again on one device": difference,
    }


def _replayed(log, batches):
    """Returns weights after the same updates on one device, by plain Keras."""
    import tensorflow as tf

    model, optimizer = built()
    variables = model.trainable_variables
    optimizer.build(variables)
    x, y = samples(BATCHES * BATCH)

    def assign(values):
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)

    @tf.function
    def gradients(read, x, y):
        assign(read)
        with tf.GradientTape() as tape:
            loss = keras.losses.MeanSquaredError()(y, model(x, training=True))
        return tape.gradient(loss, variables)

    @tf.function
    def updated(newest, gradients):
        assign(newest)
        optimizer.apply(gradients)
        return [tf.identity(variable.value) for variable in variables]

    versions = [[tf.identity(v.value) for v in variables]]
    for (_, _, read, _), (_, number) in zip(log, batches, strict=True):
        rows = slice(number * BATCH, (number + 1) * BATCH)
        taken = gradients(
            versions[read], tf.constant(x[rows]), tf.constant(y[rows])
        )
        versions.append(updated(versions[-1], taken))
    return [value.numpy() for value in versions[-1]]
