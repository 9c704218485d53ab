"""Trains where TensorFlow has one thread for operations, and ends."""

import tensorflow as tf

tf.config.threading.set_inter_op_parallelism_threads(1)
tf.config.threading.set_intra_op_parallelism_threads(1)

import numbered  # noqa: E402
import pytest  # noqa: E402

import tfdp  # noqa: E402


def data():
    return (
        tf.data.Dataset.range(40)
        .shuffle(20, seed=3)
        .apply(tfdp.shard)
        .map(lambda x: x + 1, num_parallel_calls=4)
        .batch(4)
        .prefetch(4)
    )


if __name__ == "__main__":
    with pytest.MonkeyPatch.context() as patch:
        kept, _ = numbered.fit_all(data, 2, 2, patch, lose=1)
    assert sorted(kept) == [(e, i) for e in range(2) for i in range(10)]
    print("through")
