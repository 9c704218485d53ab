"""Gives two workers data that are refused where they are split."""

import functools
import sys

import numpy as np
import refusing
import tensorflow as tf

import tfdp

strategy = tfdp.auto_strategy()
folder = sys.argv[1]
refusal = functools.partial(refusing.refusal, refusing.compiled(strategy))


def pairs(count):
    numbers = tf.reshape(tf.range(count, dtype=tf.float32), (count, 1))
    return tf.data.Dataset.from_tensor_slices((numbers, numbers))


def cached(name):
    return pairs(12).apply(tfdp.shard).cache(f"{folder}/{name}").batch(4)


def same(*pair):
    return pair


def generated(seed):
    def generate():
        for number in np.random.default_rng(seed).permutation(12):
            yield np.float32([number]), np.float32([number])

    one = tf.TensorSpec((1,))
    return tf.data.Dataset.from_generator(generate, output_signature=(one, one))


def batches(seed):
    """A generator that is given to `fit` as it is."""
    random = np.random.default_rng(seed)
    for _ in range(4):
        rows = random.permutation(12).astype("float32")[:4, None]
        yield rows, rows


if __name__ == "__main__":
    own = strategy.worker_index
    tfdp.testing.report(
        {
            "one cache file": refusal(cached("cache")),
            "no order": refusal(
                pairs(12)
                .map(same, num_parallel_calls=2, deterministic=False)
                .batch(4)
            ),
            "generator": refusal(generated(own).apply(tfdp.shard).batch(4)),
            "not marked": refusal(generated(own).batch(4)),
            "batches": refusal(batches(own)),
            "seeded": refusal(generated(7).apply(tfdp.shard).batch(4)),
            "seeded batches": refusal(batches(7)),
            "own cache files": refusal(
                cached(f"{own}-of-{strategy.num_workers}")
            ),
        }
    )
