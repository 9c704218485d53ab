"""What XLA gains inside of replicas: `jit_compile=True`, beside none.

    python benchmarks/compiled.py [--quick]

Trains two like models in one process, some steps of each in turns, one of them
with compiled replicas, with the same kernels on both sides. Batches are of 32
samples per replica, on logical CPUs. Ratios are those of medians over the
turns, of wall time and of CPU time; what compiled replicas lose must be what
the others do.
"""

import argparse
import json
import statistics
import time

from harness.networks import inputs_and_labels, model
from harness.own_process import in_own_process
from harness.table import print_head, print_row

NETWORKS = "dense", "convolutional", "transformer"
STEPS = 4


def steps_of(strategy, network, *, jit_compile):
    """Returns a function that trains, and answers with seconds and the loss."""
    import keras
    import numpy as np
    import tensorflow as tf

    import tfdp

    replicas = strategy.num_replicas_in_sync
    with strategy.scope():
        made = model(keras, network)
        made.compile(
            tfdp.DistributedOptimizer(keras.optimizers.SGD(0.01)),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            jit_compile=jit_compile,
        )
    parts = [inputs_and_labels(network, place) for place in range(replicas)]
    x, y = (np.concatenate(each) for each in zip(*parts, strict=True))
    data = tf.data.Dataset.from_tensors((x, y)).repeat()
    made.fit(data, steps_per_epoch=1, verbose=0)
    batches = iter(strategy.experimental_distribute_dataset(data))

    def turn():
        begin = time.perf_counter(), time.process_time()
        for _ in range(STEPS):
            logs = made.train_function(batches)
        end = time.perf_counter(), time.process_time()
        seconds = [(e - b) / STEPS for b, e in zip(begin, end, strict=True)]
        return *seconds, float(logs["loss"])

    return turn


def in_a_process(network, replicas, rounds):
    import tfdp

    strategy = tfdp.MirroredStrategy(tfdp.testing.logical_cpus(int(replicas)))
    ways = (False, True)
    turns = [steps_of(strategy, network, jit_compile=way) for way in ways]
    found = [[] for _ in ways]
    for number in range(int(rounds) + 1):
        for way in ways if number % 2 else ways[::-1]:
            found[way].append(turns[way]())
    spans = strategy.compile_times.spans
    took = max(end for _, end in spans) - min(begin for begin, _ in spans)
    # The first round warms up.
    return {"ways": [each[1:] for each in found], "compiling": took}


def check_losses(plain, compiled, setting):
    """Raises where compiled replicas do not lose as much as others."""
    for number, (one, other) in enumerate(zip(plain, compiled, strict=True)):
        if not abs(other[2] / one[2] - 1) < 1e-3:
            raise SystemExit(
                f"Compiled replicas ({setting}) must lose what others do. "
                f"Received: {other[2]} instead of {one[2]} in round {number}."
            )


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        return print(json.dumps(in_a_process(*arguments.one)))
    rounds = 3 if arguments.quick else 12
    print_head(
        *(
            "network",
            "replicas",
            "ms per step",
            "compiled",
            "wall: x",
            "CPU: x",
        ),
        "compiling, s",
        more=[f"{rounds} turns of {STEPS} steps"],
    )
    for network in arguments.networks or NETWORKS:
        for replicas in (1, 2):
            answer = in_own_process(__file__, network, replicas, rounds)
            plain, compiled = answer["ways"]
            check_losses(plain, compiled, f"{network}, {replicas} replicas")
            before, after = (
                [statistics.median(each) for each in zip(*way, strict=True)]
                for way in (plain, compiled)
            )
            print_row(
                *(network, replicas),
                *(f"{1e3 * seconds:.1f}" for seconds in (before[0], after[0])),
                *(f"{before[kind] / after[kind]:.2f}" for kind in (0, 1)),
                f"{answer['compiling']:.1f}",
            )
    return None


if __name__ == "__main__":
    main()
