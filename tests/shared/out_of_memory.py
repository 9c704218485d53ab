"""Finds the largest batch that fits, or trains with one.

    python out_of_memory.py MEBIBYTES [BATCH]

The allocator has no more than that; what it refuses ends a step.
"""

import json
import os
import sys

os.environ["TF_CPU_ALLOCATOR_USE_BFC"] = "true"
os.environ["TF_CPU_BFC_MEM_LIMIT_IN_MB"] = sys.argv[1]

import keras
import tensorflow as tf

import tfdp


def made():
    with tfdp.auto_strategy().scope():
        x = inputs = keras.Input((64,))
        for _ in range(6):
            x = keras.layers.Dense(2048, "gelu")(x)
        model = keras.Model(inputs, keras.layers.Dense(1)(x))
        model.compile(tfdp.DistributedOptimizer(keras.optimizers.Adam()), "mse")
    return model


def fits(size):
    x, y = tf.zeros((size, 64)), tf.zeros((size, 1))
    dataset = tf.data.Dataset.from_tensors((x, y)).repeat(2)
    try:
        made().fit(dataset, verbose=0)
    except tf.errors.ResourceExhaustedError:
        return False
    return True


if __name__ == "__main__":
    mebibytes, *size = map(int, sys.argv[1:])
    if size:
        found = fits(*size)
    else:
        batch = tf.zeros((8, 64)), tf.zeros((8, 1))
        limit = int(0.9 * mebibytes * 2**20)
        found = tfdp.find_batch(made(), batch, memory_limit=limit)
    print(json.dumps(found))
