"""Throughput of `fit` with two and four replicas in one process.

    python benchmarks/one_process.py [--quick]

Trains the same model from the same weights on the same batches: with plain
Keras under `tf.distribute.MirroredStrategy`, with tf_keras (Keras 2) under it,
with tfdp, and on one device. Each is a process of its own; they take turns of
whole accumulation cycles. Those that make an update per step must lose as much
as plain Keras does on one device.
"""

import argparse
import functools
import importlib
import pathlib
import statistics
import sys

from harness.fit_turns import fit_turns
from harness.table import print_head, print_row
from harness.turns import Player, in_turns, ratio_of_medians, ready
from peers import python_of, version_of

# Name: (how it is distributed, accumulation steps).
CONTESTANTS = {
    "plain Keras": ("plain", 1),
    "tf_keras": ("plain", 1),
    "tfdp": ("tfdp", 1),
    "tfdp, accumulation 8": ("tfdp", 8),
    "one device": ("none", 1),
}
# Widths, and steps per turn: whole cycles of about a second.
MODELS = {
    "tiny": ((16, 16, 10), 400),
    "large": ((1024, 2048, 2048, 2048, 10), 16),
}
PER_REPLICA_BATCH, NUM_BATCHES = 32, 8


def play(name, model_name, replicas):
    """Trains without end, a turn at a time."""
    kind, accumulation_steps = CONTESTANTS[name]
    keras = importlib.import_module(
        "tf_keras" if name == "tf_keras" else "keras"
    )
    import tensorflow as tf

    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * replicas
    )
    devices = [f"CPU:{i}" for i in range(replicas)]
    optimizer = functools.partial(keras.optimizers.SGD, 0.01, momentum=0.9)
    callbacks = []
    if kind == "tfdp":
        import tfdp

        strategy = tfdp.MirroredStrategy(devices)
        callbacks.append(tfdp.callbacks.DataParallel())
        inner, optimizer = (
            optimizer,
            lambda: tfdp.DistributedOptimizer(inner(), accumulation_steps),
        )
    elif kind == "plain":
        strategy = tf.distribute.MirroredStrategy(devices)
    else:
        strategy = tf.distribute.get_strategy()
    with strategy.scope():
        model = made_model(keras, MODELS[model_name][0])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer(), loss)
    model.fit(
        dataset(tf, MODELS[model_name][0], replicas * PER_REPLICA_BATCH),
        steps_per_epoch=10**9,
        shuffle=False,
        verbose=0,
        callbacks=[*callbacks, fit_turns(keras)],
    )


def made_model(keras, widths):
    """Returns a dense network whose weights are the same in every Keras."""
    import numpy as np

    model = keras.Sequential(
        [
            keras.Input((widths[0],)),
            *(keras.layers.Dense(width, "relu") for width in widths[1:-1]),
            keras.layers.Dense(widths[-1]),
        ]
    )
    random = np.random.default_rng(0)
    model.set_weights(
        [
            random.normal(0, (2 / w.shape[0]) ** 0.5, w.shape)
            if w.ndim > 1
            else w
            for w in model.get_weights()
        ]
    )
    return model


def dataset(tf, widths, micro_batch):
    import numpy as np

    random = np.random.default_rng(1)
    x = random.normal(size=(NUM_BATCHES * micro_batch, widths[0]))
    y = random.integers(widths[-1], size=len(x))
    data = tf.data.Dataset.from_tensor_slices((x.astype("float32"), y))
    return data.batch(micro_batch).repeat()


def contest(names, model_name, replicas, rounds, steps):
    """Returns the answers of contestants, by round."""
    players = {
        name: Player(
            [
                python_of(name) if name == "tf_keras" else sys.executable,
                pathlib.Path(__file__).resolve(),
                *("--play", name, model_name, replicas),
            ]
        )
        for name in names
    }
    with ready(players):
        answers = in_turns(players, steps, rounds)
    return {name: [a for (a,) in each] for name, each in answers.items()}


def check_losses(answers, setting):
    """Raises where those that do the same work do not lose as much."""
    for name, each in answers.items():
        if CONTESTANTS[name][1] > 1:
            continue
        pairs = zip(each, answers["one device"], strict=True)
        for number, (ours, theirs) in enumerate(pairs, 1):
            if not abs(ours["loss"] / theirs["loss"] - 1) < 1e-3:
                raise SystemExit(
                    f"{name} ({setting}) must lose what one device does. "
                    f"Received: {ours['loss']} instead of {theirs['loss']} "
                    f"in round {number}."
                )


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--skip", nargs="+", choices=CONTESTANTS, default=())
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--steps", type=int, help="per turn; whole cycles")
    parser.add_argument("--play", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.play:
        name, model_name, replicas = arguments.play
        return play(name, model_name, int(replicas))
    rounds = arguments.rounds or (3 if arguments.quick else 15)
    names = [name for name in CONTESTANTS if name not in arguments.skip]
    print_head(
        *("replicas", "model", "contestant", "ms per micro-step", "samples/s"),
        more=[version_of(each) for each in names if each == "tf_keras"],
    )
    for replicas in (2,) if arguments.quick else (2, 4):
        for model_name in arguments.models:
            steps = arguments.steps or MODELS[model_name][1]
            answers = contest(names, model_name, replicas, rounds, steps)
            check_losses(answers, f"{model_name}, {replicas} replicas")
            seconds = {
                name: [answer["seconds"] for answer in each]
                for name, each in answers.items()
            }
            for name, each in seconds.items():
                middle = statistics.median(each) / steps * 1e3
                ratio = ratio_of_medians(seconds["plain Keras"], each)
                print_row(
                    *(replicas, model_name, name),
                    *(f"{middle:.2f}", f"{ratio:.2f}"),
                )
    return None


if __name__ == "__main__":
    main()
