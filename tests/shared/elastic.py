"""Workers are lost and come back within one training; is it one device's?

`python tests/shared/elastic.py` prints a table.
"""

import argparse
import itertools
import os
import pathlib
import re
import signal
import sys
import tempfile

import keras
import numpy as np
import tensorflow as tf

BATCH, MICRO_BATCHES = 48, 4
SAMPLES, EPOCHS = 443, 4
UPDATE = re.compile(r"update (\d+) of (\d+)")


def model():
    keras.utils.set_random_seed(3)
    return keras.Sequential(
        [
            keras.Input((8,)),
            keras.layers.Dense(16, "relu"),
            keras.layers.Dense(1),
        ]
    )


def updates_of(epochs, samples=SAMPLES):
    return epochs * -(-samples // BATCH)


def optimizer(name, epochs=EPOCHS, samples=SAMPLES):
    updates = updates_of(epochs, samples)
    rate = keras.optimizers.schedules.CosineDecay(0.02, updates)
    if name == "Adam":
        return keras.optimizers.Adam(rate)
    return keras.optimizers.SGD(rate, momentum=0.9)


def data(batch, samples=SAMPLES):
    """Shuffled anew in each epoch; neither workers nor batches divide it."""
    random = np.random.default_rng(0)
    x = random.normal(size=(samples, 8)).astype("float32")
    y = np.tanh(x.sum(axis=1, keepdims=True))
    dataset = tf.data.Dataset.from_tensor_slices((x, y))
    return dataset.shuffle(samples, seed=7).batch(batch)


class Updates(keras.callbacks.Callback):
    """Hears of each update once it is made."""

    def on_train_begin(self, logs=None):
        self.seen = int(self.model.optimizer.iterations.numpy())

    def on_train_batch_end(self, batch, logs=None):
        self.look()

    def on_epoch_end(self, epoch, logs=None):
        self.look()

    def look(self):
        now = int(self.model.optimizer.iterations.numpy())
        if now > self.seen:
            self.seen = now
            self.on_update(now)


def one_device(name, epochs=EPOCHS, samples=SAMPLES):
    """Weights and losses of plain Keras on one device."""
    alone = model()
    alone.compile(optimizer(name, epochs, samples), "mse")
    history = alone.fit(data(BATCH, samples), epochs=epochs, verbose=0).history
    return alone.get_weights(), history["loss"]


class Fate:
    """Decides who falls and who comes back, by the updates of the job.

    Args:
        course: What happens after which update: `(update, "lose", workers)`
            or `(update, "welcome", slots)`, in order.
    """

    def __init__(self, course, slots):
        self.course = list(course)
        self.slots = slots
        self.group = None
        self.updates = []

    def hear(self, worker, line):
        found = UPDATE.fullmatch(line)
        if not found:
            return
        update, size = map(int, found.groups())
        self.updates.append((update, size))
        if self.course and update >= self.course[0][0]:
            _, what, which = self.course.pop(0)
            if what == "welcome":
                self.slots.welcome(which)
                return
            for index in which:
                os.kill(self.group.pids[index], signal.SIGKILL)


def run(folder, name, course, most=4):
    """Trains through a course; returns exit code, sayings and updates."""
    from tfdp.elastic import ElasticGroup, ElasticLauncher, Slots
    from tfdp.launching import ForkServer, worker_variables

    slots = Slots(1, most, rejoin_seconds=0, first_pause=300, forgiven=0)
    fate, said = Fate(course, slots), []
    here = pathlib.Path(__file__).parent
    server = ForkServer(["keras", "tfdp.callbacks"], worker_variables())

    def start_group(restart_count, **kwargs):
        fate.group = ElasticGroup(
            [sys.executable, here / "elastic_training.py", folder, name],
            restart_count=restart_count,
            on_line=fate.hear,
            server=server,
            **kwargs,
        )
        return fate.group

    try:
        launcher = ElasticLauncher(start_group, slots=slots, say=said.append)
        return launcher.run(), said, fate.updates
    finally:
        server.close()


# Four workers, then three, one, and two.
COURSE = (
    (8, "lose", [3]),
    (16, "lose", [1, 2]),
    (24, "welcome", [3]),
)


def differences(folder, name, **size):
    """Largest differences of weights and losses from those of one device."""
    weights, losses = one_device(name, **size)
    with np.load(folder / "weights.npz") as saved:
        ours = [saved[key] for key in saved.files]
    return (
        max(
            float(np.abs(a - b).max())
            for a, b in zip(ours, weights, strict=True)
        ),
        float(np.abs(np.load(folder / "losses.npy") - losses).max()),
    )


def main():
    argparse.ArgumentParser(description=__doc__).parse_args()
    print("| optimizer | workers | updates | made twice | weights | losses |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name in ("momentum", "Adam"):
        with tempfile.TemporaryDirectory() as created:
            folder = pathlib.Path(created)
            exit_code, said, updates = run(folder, name, COURSE)
            if exit_code:
                raise SystemExit("\n".join(said))
            sizes = [
                size for size, _ in itertools.groupby(s for _, s in updates)
            ]
            twice = len(updates) - len({update for update, _ in updates})
            weights, losses = differences(folder, name)
        print(
            f"| {name} | {' → '.join(map(str, sizes))} | {updates[-1][0]} | "
            f"{twice} | {weights:.1e} | {losses:.1e} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
