"""Programs that train by `fit` in an AsynchronousStrategy, and their replay."""

import json
import os
import pathlib
import signal
import subprocess
import time

import keras
import numpy as np
import tensorflow as tf

import tfdp

SAMPLES, BATCH = 44, 8
OPTIMIZERS = {
    "SGD": lambda: keras.optimizers.SGD(0.05, momentum=0.9),
    "Adam": lambda: keras.optimizers.Adam(
        keras.optimizers.schedules.ExponentialDecay(0.02, 5, 0.8)
    ),
    "AdamW": lambda: keras.optimizers.AdamW(
        0.01, weight_decay=0.1, global_clipnorm=0.2, use_ema=True
    ),
}


def samples():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(SAMPLES, 5)).astype("float32")
    return x, (x.sum(1, keepdims=True) + 0.3).astype("float32")


def data_of(kind):
    x, y = samples()
    if kind == "arrays":
        return {"x": x, "y": y, "batch_size": BATCH}
    dataset = tf.data.Dataset.from_tensor_slices((x, y))
    if kind == "marked":
        dataset = dataset.apply(tfdp.shard)
    dataset = dataset.map(lambda x, y: (x, y))
    if kind == "unknown":
        dataset = dataset.filter(lambda x, y: True)
    return {"x": dataset.batch(BATCH)}


def make_model():
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((5,)),
            keras.layers.Dense(7, "tanh", kernel_regularizer="l2"),
            keras.layers.Dense(1),
        ]
    )


class Slow(keras.callbacks.Callback):
    """Makes each step of a worker take longer."""

    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds

    def on_train_batch_end(self, batch, logs=None):
        time.sleep(self.seconds)


class Noted:
    """Writes which batches each update of this worker is of."""

    def __init__(self, strategy, folder):
        self._used = strategy.feed.used
        # The lives of a worker in their order.
        name = f"{strategy.worker_index}-{time.time_ns()}.jsonl"
        self._path = pathlib.Path(folder, name)
        strategy.feed.used = self
        self._feed = strategy.feed

    def __call__(self):
        used = self._used()
        with self._path.open("a") as file:
            print(json.dumps([self._feed.epoch, used]), file=file)
        return used


class Failing(keras.callbacks.Callback):
    """Has the last worker fail in its first life, after two updates."""

    def __init__(self, how, workers):
        super().__init__()
        self.how = how
        self.workers = workers
        self.is_first = os.environ["TFDP_RESTART_COUNT"] == "0"

    def on_train_batch_begin(self, batch, logs=None):
        strategy = self.model.distribute_strategy
        # Nobody is through before the others have come.
        living = range(self.workers - (self.how == "killed" and not batch))
        while strategy.is_chief and self.epoch == 0 and batch == 1:
            there = strategy.exchange.statistics()
            if {*there["living"], *map(int, there["lost"])} >= {*living}:
                break
            time.sleep(0.05)

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        strategy = self.model.distribute_strategy
        is_last = epoch == self.params["epochs"] - 1
        # Nor is all over before one is back.
        while self.how == "back" and is_last and strategy.is_chief:
            living = strategy.exchange.statistics()["living"]
            if len(living) == self.workers:
                break
            time.sleep(0.05)

    def get_state(self):
        return {}

    def set_state(self, state):
        pass

    def on_train_batch_end(self, batch, logs=None):
        time.sleep(0.1)
        strategy = self.model.distribute_strategy
        is_last = strategy.worker_index == self.workers - 1
        if not (self.is_first and is_last and batch == 1 and self.epoch == 0):
            return
        if self.how in ("killed", "back"):
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "stopped":
            own = os.getpid()
            lines = f"kill -STOP {own}; sleep 4; kill -CONT {own}"
            subprocess.Popen(["sh", "-c", lines])
            time.sleep(0.5)


def train(
    folder,
    optimizer,
    bound,
    how="",
    workers=2,
    epochs=3,
    accumulation=1,
    kind="arrays",
):
    """Trains; returns what the server and this worker have."""
    strategy = tfdp.AsynchronousStrategy(
        max_staleness=bound, heartbeat_timeout=2.0
    )
    Noted(strategy, folder)
    with strategy.scope():
        model = make_model()
        model.compile(
            tfdp.DistributedOptimizer(
                OPTIMIZERS[optimizer](), accumulation_steps=accumulation
            ),
            "mse",
        )
    is_slow = how == "slow" and strategy.worker_index == 1
    history = model.fit(
        **data_of(kind),
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=[
            tfdp.callbacks.DataParallel(),
            Slow(0.15 if is_slow else 0.05),
            *([Failing(how, workers)] if how not in ("", "slow") else []),
        ],
    )
    found = {
        "weights": [w.tolist() for w in model.get_weights()],
        "iterations": int(model.optimizer.iterations.numpy()),
        "history": history.history,
    }
    if strategy.is_chief:
        found["log"] = [list(row) for row in strategy.exchange.log()]
        found["statistics"] = strategy.exchange.statistics()
    return found


def trained_on(folder):
    """Returns for each worker what the updates of each of its lives are of."""
    lives = {}
    for path in sorted(pathlib.Path(folder).glob("*.jsonl")):
        worker = int(path.name.split("-")[0])
        lines = path.read_text().splitlines()
        lives.setdefault(worker, []).append([json.loads(n) for n in lines])
    return lives


def with_batches(log, folder):
    """Adds the epoch and the batches to each row of a server's log."""
    lives, life = trained_on(folder), {}
    rows = []
    for worker, step, read, applied in log:
        life[worker] = life.get(worker, -1) + (step == 0)
        rows.append([read, applied, *lives[worker][life[worker]][step]])
    return rows


def replayed(rows, optimizer):
    """Makes the updates of a log on one device; returns the weights.

    Args:
        rows: Version read, version applied, epoch and batches of each update.
        optimizer: Name of it.
    """
    x, y = samples()
    model, made = make_model(), OPTIMIZERS[optimizer]()
    variables = model.trainable_variables
    made.build(variables)
    loss_of = keras.losses.MeanSquaredError()

    @tf.function
    def gradients(x, y):
        with tf.GradientTape() as tape:
            loss = loss_of(y, model(x, training=True)) + sum(model.losses)
        return tape.gradient(loss, variables)

    # An update by a graph rounds in another way than one by one.
    apply = tf.function(lambda gradients: made.apply(gradients, variables))
    versions = [[v.numpy() for v in variables]]
    for read, applied, _, (number,) in rows:
        assert applied == len(versions) - 1
        for variable, value in zip(variables, versions[read], strict=True):
            variable.assign(value)
        part = slice(number * BATCH, (number + 1) * BATCH)
        taken = gradients(tf.constant(x[part]), tf.constant(y[part]))
        for variable, value in zip(variables, versions[-1], strict=True):
            variable.assign(value)
        apply(taken)
        versions.append([v.numpy() for v in variables])
    made.finalize_variable_values(variables)
    return [v.numpy() for v in variables]
