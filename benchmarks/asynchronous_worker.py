"""One worker of what `asynchronous.py` measures.

    python benchmarks/asynchronous_worker.py turns WAY SECONDS BATCHES
    python benchmarks/asynchronous_worker.py killed FOLDER MINUTES BOUND
    python benchmarks/asynchronous_worker.py task TASK SEED EPOCHS BOUND
    python benchmarks/asynchronous_worker.py steps WAY NETWORK

WAY is `synchronous` or a bound on staleness.
"""

import json
import sys
import time

import keras
import tensorflow as tf
from apart import killed, price
from harness.fit_turns import fit_turns
from harness.networks import inputs_and_labels, model
from harness.turns import next_turn

import tfdp

BATCH = 32
SLOW = price.SLOW


class Sleep(keras.callbacks.Callback):
    """Makes a step take longer, as if it computed: no core is needed."""

    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds

    def on_train_batch_end(self, batch, logs=None):
        time.sleep(self.seconds)


class EpochTurns(keras.callbacks.Callback):
    """Trains an epoch at each turn."""

    def __init__(self):
        super().__init__()
        self.answer = "ready"

    def on_epoch_begin(self, epoch, logs=None):
        next_turn(self.answer)
        self.begin = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.answer = time.perf_counter() - self.begin


def turns(way, seconds, batches):
    """Trains epochs of `batches` batches; the last worker is slow."""
    seconds, batches = float(seconds), int(batches)
    together = 1
    if way == "synchronous":
        strategy = tfdp.MultiWorkerMirroredStrategy()
        together = strategy.num_replicas_in_sync
        workers = strategy.num_workers
    else:
        strategy = tfdp.AsynchronousStrategy(max_staleness=int(way))
        workers = strategy.size
    if strategy.worker_index == workers - 1:
        seconds *= SLOW
    with strategy.scope():
        trained = keras.Sequential(
            [keras.Input((16,)), keras.layers.Dense(8), keras.layers.Dense(1)]
        )
        trained.compile(
            tfdp.DistributedOptimizer(keras.optimizers.SGD(0.001)), "mse"
        )
    x, y = killed.samples(batches * BATCH)
    trained.fit(
        x,
        y,
        batch_size=together * BATCH,
        epochs=10**6,
        verbose=0,
        callbacks=[
            tfdp.callbacks.DataParallel(),
            Sleep(seconds),
            EpochTurns(),
        ],
    )


def task(name, seed, epochs, bound):
    """Trains a task of `local_updates.py`, in real time."""
    strategy = tfdp.AsynchronousStrategy(max_staleness=int(bound))
    epochs = int(epochs)
    keras.utils.set_random_seed(int(seed))
    (x, y), held_out = getattr(price.tasks, name)()
    updates = epochs * -(-len(x) // price.BATCH)
    with strategy.scope():
        trained = getattr(price.tasks, f"{name}_model")()
        trained.compile(
            tfdp.DistributedOptimizer(price.optimizer(name, updates, 1)),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
    # Longer than what computing takes, on cores that others use as well.
    is_slow = strategy.worker_index == strategy.size - 1
    trained.fit(
        x,
        y,
        batch_size=price.BATCH,
        epochs=epochs,
        verbose=0,
        callbacks=[
            tfdp.callbacks.DataParallel(),
            Sleep(0.05 * (SLOW if is_slow else 1)),
        ],
    )
    if strategy.is_chief:
        judged = trained.evaluate(*held_out, verbose=0, return_dict=True)
        log = strategy.exchange.log()
        found = {
            "accuracy": 100 * judged["accuracy"],
            "loss": judged["loss"],
            "staleness": [update.staleness for update in log],
        }
        print(json.dumps(found), flush=True)


def steps(way, network):
    """Trains a network alone, with a server or without."""
    if way == "synchronous":
        strategy = tfdp.MirroredStrategy(["CPU:0"])
    else:
        strategy = tfdp.AsynchronousStrategy(int(way), devices=["CPU:0"])
    with strategy.scope():
        trained = model(keras, network)
        trained.compile(
            tfdp.DistributedOptimizer(keras.optimizers.SGD(0.01, momentum=0.9)),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
    one = inputs_and_labels(network, 0)
    trained.fit(
        tf.data.Dataset.from_tensors(one).repeat(),
        steps_per_epoch=10**9,
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel(), fit_turns(keras)],
    )


if __name__ == "__main__":
    ways = {
        "turns": turns,
        "killed": killed.train,
        "task": task,
        "steps": steps,
    }
    ways[sys.argv[1]](*sys.argv[2:])
