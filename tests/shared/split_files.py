"""Trains on files that are split between workers, and writes down samples.

python split_files.py FOLDER RECORDS ...

makes a file of so many records for each number, and trains on all of them.
"""

import sys

import keras
import numpy as np
import tensorflow as tf
from witness import Witness

import tfdp

BATCH, EPOCHS = 8, 2


def written(folder, counts, is_writer):
    """Returns the files' names; records are numbers from 1."""
    first, paths = 1, []
    for index, count in enumerate(counts):
        paths.append(f"{folder}/{index:02}.tfrecord")
        if is_writer:
            with tf.io.TFRecordWriter(paths[-1]) as writer:
                for number in range(first, first + count):
                    writer.write(str(number).encode())
        first += count
    return paths


def parsed(record):
    number = tf.strings.to_number(record)
    return tf.stack([tf.sin(number), tf.cos(number)]), number[tf.newaxis]


def read(files, **options):
    """Splits files between workers; each reads its own."""
    return (
        files.apply(tfdp.shard)
        .interleave(tf.data.TFRecordDataset, **options)
        .map(parsed)
    )


def seen(strategy, dataset):
    """Trains; returns what can be compared with one device."""
    keras.utils.set_random_seed(1)
    with strategy.scope():
        model = Witness()
        optimizer = keras.optimizers.SGD(1e-4)
        model.compile(tfdp.DistributedOptimizer(optimizer), "mse")
    steps = []
    counter = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: (
            model.epochs.append([]),
            steps.append(0),
        ),
        on_train_batch_end=lambda batch, logs: steps.append(steps.pop() + 1),
    )
    model.fit(
        dataset,
        epochs=EPOCHS,
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel(), counter],
    )
    return {
        "epochs": model.epochs,
        "steps": steps,
        "updates": int(model.optimizer.iterations.numpy()),
        "weights": np.concatenate(
            [w.ravel() for w in model.get_weights()]
        ).tolist(),
        "evaluated": model.evaluate(dataset, verbose=0),
    }


def main(folder, *counts):
    strategy = tfdp.auto_strategy()
    # Every worker must be given the same names.
    paths = written(folder, map(int, counts), strategy.is_chief)
    strategy.barrier()
    files = tf.data.Dataset.from_tensor_slices(paths)
    tfdp.testing.report(
        {
            "in order": seen(strategy, read(files).batch(BATCH)),
            "files shuffled": seen(
                strategy, read(files.shuffle(len(paths), seed=3)).batch(BATCH)
            ),
            "records shuffled": seen(
                strategy,
                read(
                    files,
                    cycle_length=3,
                    num_parallel_calls=tf.data.AUTOTUNE,
                    deterministic=False,
                )
                .shuffle(16)
                .batch(BATCH)
                .prefetch(2),
            ),
            "filtered": seen(
                strategy,
                read(files).filter(lambda x, y: y[0] % 3 != 0).batch(BATCH),
            ),
        }
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
