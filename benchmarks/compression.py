"""What compressed gradients do to a training: held-out digits.

    python benchmarks/compression.py [--quick]

Trains the network of the digits (see `large_batch/tasks.py`) with two replicas
in one process, with gradients in float32, bfloat16 and float16 between them,
from the same weights and in the same order of samples. Cells are medians over
the seeds, and the range.
"""

import argparse
import json
import statistics

from harness.own_process import in_own_process
from harness.table import print_head, print_row

FORMATS = ("none", "bfloat16", "float16")
BATCH, RATE, MOMENTUM = 64, 0.1, 0.9


def measure(compression, seed, epochs):
    import keras
    import tensorflow as tf
    from large_batch import tasks

    import tfdp

    keras.utils.set_random_seed(seed)
    data, held_out = tasks.digits()
    strategy = tfdp.MirroredStrategy(tfdp.testing.logical_cpus(2))
    updates = epochs * -(-len(data[0]) // BATCH)
    rate = keras.optimizers.schedules.CosineDecay(RATE, updates)
    with strategy.scope():
        model = tasks.digits_model()
        model.compile(
            tfdp.DistributedOptimizer(
                keras.optimizers.SGD(rate, momentum=MOMENTUM),
                compression=None if compression == "none" else compression,
            ),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
    dataset = tf.data.Dataset.from_tensor_slices(data)
    history = model.fit(
        dataset.shuffle(len(data[0]), seed=seed).batch(BATCH),
        epochs=epochs,
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel()],
    ).history
    judged = model.evaluate(
        tf.data.Dataset.from_tensor_slices(held_out).batch(BATCH),
        verbose=0,
        return_dict=True,
    )
    print(json.dumps([judged["accuracy"], judged["loss"], history["loss"][-1]]))


def cell(values, form):
    low, high = min(values), max(values)
    middle = form.format(statistics.median(values))
    return f"{middle} ({form.format(low)} to {form.format(high)})"


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        compression, seed, epochs = arguments.one
        return measure(compression, int(seed), int(epochs))
    seeds, epochs = (range(1), 5) if arguments.quick else (range(3), 40)
    print_head("gradients in", "held-out accuracy", "held-out loss", "loss")
    for compression in FORMATS:
        results = [
            in_own_process(__file__, compression, seed, epochs)
            for seed in seeds
        ]
        accuracies, losses, own = zip(*results, strict=True)
        print_row(
            "float32" if compression == "none" else compression,
            cell(accuracies, "{:.1%}"),
            cell(losses, "{:.3f}"),
            cell(own, "{:.4f}"),
        )
    return None


if __name__ == "__main__":
    main()
