"""What `random_by="sample"` costs, beside random layers of each replica.

    python benchmarks/random_layers.py [--quick]

Trains three like models with dropout in one process, some steps of each in
turns, so that all meet the same machine: one whose dropout is left out, one
whose dropout draws for each replica, as by default, and one where it draws for
each sample. Two workers have one of them at a time, and are started in turns.
Batches are of 32 samples per replica, on logical CPUs. The table shows medians
over the turns, and their ratio.
"""

import argparse
import json
import statistics
import time

from harness.own_process import in_own_process
from harness.table import print_head, print_row

BATCH = 32
STEPS = 10
NETWORKS = "dense", "convolutional"
WAYS = "without", "replica", "sample"


def model_of(network, rate):
    from keras import Input, Sequential, layers

    if network == "dense":
        hidden = [layers.Dense(512, "relu") for _ in range(3)]
        shape = (256,)
    else:
        shape = (28, 28, 1)
        hidden = [
            layers.Conv2D(16, 3, activation="relu"),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
        ]
    dropped = [each for layer in hidden for each in (layer, *dropout(rate))]
    end = [layers.Flatten(), layers.Dense(10)]
    return Sequential([Input(shape), *dropped, *end])


def dropout(rate):
    from keras import layers

    return [layers.Dropout(rate)] if rate else []


def steps_of(way, make_strategy, network):
    """Returns a function that trains, and returns milliseconds per step."""
    import keras
    import numpy as np
    import tensorflow as tf

    import tfdp

    strategy = make_strategy("sample" if way == "sample" else "replica")
    keras.utils.set_random_seed(1)
    with strategy.scope():
        model = model_of(network, 0 if way == "without" else 0.2)
        optimizer = tfdp.DistributedOptimizer(keras.optimizers.SGD(0.01))
        model.compile(optimizer, "mse")
    batch = BATCH * strategy.num_replicas_in_sync
    x = np.ones((batch, *model.input_shape[1:]), "float32")
    one = tf.data.Dataset.from_tensors((x, np.ones((batch, 10), "float32")))
    data = one.repeat()
    model.fit(data, steps_per_epoch=STEPS, verbose=0)
    batches = iter(strategy.experimental_distribute_dataset(data))

    def turn():
        begin = time.perf_counter()
        for _ in range(STEPS):
            model.train_function(batches)
        return (time.perf_counter() - begin) / STEPS * 1e3

    return turn


def in_a_process(network, replicas, rounds):
    import tfdp

    devices = tfdp.testing.logical_cpus(int(replicas))

    def strategy(by):
        return tfdp.MirroredStrategy(devices, random_by=by)

    turns = {way: steps_of(way, strategy, network) for way in WAYS}
    found = {way: [] for way in WAYS}
    for number in range(int(rounds) + 1):
        first = number % len(WAYS)
        for way in (*WAYS[first:], *WAYS[:first]):
            found[way].append(turns[way]())
    # The first round warms up.
    return {way: each[1:] for way, each in found.items()}


def on_a_worker(way, network, rounds):
    import tfdp

    turn = steps_of(way, lambda by: tfdp.auto_strategy(random_by=by), network)
    return [turn() for _ in range(rounds + 1)][1:]


def on_workers(network, rounds, starts):
    import tfdp

    found = {way: [] for way in WAYS}
    for _ in range(starts):
        for way in WAYS:
            arguments = [way, network, rounds // starts]
            chief, _ = tfdp.testing.run_workers(on_a_worker, 2, arguments)
            found[way] += chief
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        return print(json.dumps(in_a_process(*arguments.one)))
    rounds, starts = (5, 1) if arguments.quick else (60, 3)
    print_head(
        *("network", "", "no dropout", "by replica", "by sample"),
        "sample over replica",
        more=[f"{rounds} turns of {STEPS} steps"],
    )
    for network in NETWORKS:
        for place in ("1 replica", "2 replicas", "2 workers"):
            found = (
                on_workers(network, rounds, starts)
                if place == "2 workers"
                else in_own_process(__file__, network, place[0], rounds)
            )
            medians = [statistics.median(found[way]) for way in WAYS]
            print_row(
                network,
                place,
                *(f"{each:.2f} ms" for each in medians),
                f"{medians[2] / medians[1]:.2f}",
            )
    return None


if __name__ == "__main__":
    main()
