"""Where the milliseconds of an update go, on two workers.

    python benchmarks/update_profile.py [--quick] [--before PYTHON]

Trains the dense network of `two_workers.py`, each worker on a core of its own,
as `tfdp launch` starts them, and shows what `ThroughputMonitor` tells apart, in
milliseconds per update: means of the two workers, medians over the rounds.
`--before` is an interpreter with another tfdp, which takes turns.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys

from harness.networks import inputs_and_labels, model
from harness.table import print_head, print_row

PARTS = (
    *("start", "input", "compute", "waiting", "communication", "other"),
    *("between", "voting", "held"),
)
MARK = "[profile] "
VARIANTS = {"1": {}, "8": {}, "1, bfloat16": {"compression": "bfloat16"}}


def train(variant, updates):
    import keras
    import tensorflow as tf

    import tfdp

    strategy = tfdp.MultiWorkerMirroredStrategy()
    accumulation = int(variant.partition(",")[0])
    with strategy.scope():
        network = model(keras, "dense")
        network.compile(
            tfdp.DistributedOptimizer(
                keras.optimizers.SGD(0.01, momentum=0.9),
                accumulation,
                **VARIANTS[variant],
            ),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
    monitor = tfdp.callbacks.ThroughputMonitor(warmup_updates=4, verbose=0)

    def own_batches(context):
        one = inputs_and_labels("dense", context.input_pipeline_id)
        return tf.data.Dataset.from_tensors(one).repeat()

    network.fit(
        strategy.distribute_datasets_from_function(own_batches),
        steps_per_epoch=(updates + 4) * accumulation,
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel(), monitor],
    )
    total = monitor.total
    if strategy.is_chief:
        parts = {
            # There is one replica for each worker, so that parts add up.
            # In the input of a tfdp that does not tell it, start is included.
            name: statistics.fmean(getattr(total.breakdown, name, [0.0]))
            / total.rates.updates
            for name in PARTS
        }
        print("\n" + MARK + json.dumps(parts), flush=True)


def profile(python, variant, updates):
    """Returns the seconds of an update, by part."""
    command = [
        # Not of the folder that this is started in.
        *(python, "-P", "-m", "tfdp.cli", "launch", "--workers", "2"),
        *("--cpus-per-worker", "1", __file__),
        *("--one", variant, str(updates)),
    ]
    result = subprocess.run(
        command, capture_output=True, text=True, env=os.environ, check=True
    )
    return json.loads(result.stdout.partition(MARK)[2].partition("\n")[0])


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--before", metavar="PYTHON")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        return train(arguments.one[0], int(arguments.one[1]))
    rounds, updates = (1, 16) if arguments.quick else (5, 32)
    rounds = arguments.rounds or rounds
    contestants = [("", sys.executable, name) for name in VARIANTS]
    if arguments.before:
        contestants += [("before: ", arguments.before, n) for n in ("1", "8")]
    found = {(label, name): [] for label, _, name in contestants}
    for _ in range(rounds):
        for label, python, name in contestants:
            found[label, name].append(profile(python, name, updates))
    print_head("accumulation", *PARTS, "ms per update")
    for (label, name), profiles in found.items():
        parts = {
            part: 1e3 * statistics.median(each[part] for each in profiles)
            for part in PARTS
        }
        cells = (f"{value:.1f}" for value in parts.values())
        whole = 1e3 * statistics.median(sum(p.values()) for p in profiles)
        print_row(label + name, *cells, f"{whole:.1f}")
    return None


if __name__ == "__main__":
    main()
