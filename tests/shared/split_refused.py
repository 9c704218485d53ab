"""Gives two workers data that are refused where they are split."""

import sys

import keras
import tensorflow as tf

import tfdp

strategy = tfdp.auto_strategy()
folder = sys.argv[1]
with strategy.scope():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(tfdp.DistributedOptimizer(keras.optimizers.SGD(0.0)), "mse")


def pairs(count):
    numbers = tf.reshape(tf.range(count, dtype=tf.float32), (count, 1))
    return tf.data.Dataset.from_tensor_slices((numbers, numbers))


def cached(name):
    return pairs(12).apply(tfdp.shard).cache(f"{folder}/{name}").batch(4)


def same(*pair):
    return pair


def refusal(data):
    try:
        model.fit(data, verbose=0)
    except ValueError as error:
        return str(error)
    return None


if __name__ == "__main__":
    own = f"{strategy.worker_index}-of-{strategy.num_workers}"
    tfdp.testing.report(
        {
            "one cache file": refusal(cached("cache")),
            "no order": refusal(
                pairs(12)
                .map(same, num_parallel_calls=2, deterministic=False)
                .batch(4)
            ),
            "own cache files": refusal(cached(own)),
        }
    )
