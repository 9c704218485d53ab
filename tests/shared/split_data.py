"""Trains on data that is split in many ways, and counts what was computed.

The ways are those named, or all.
"""

import sys

import keras
import numpy as np
import tensorflow as tf

import tfdp

strategy = tfdp.auto_strategy()
SAMPLES, BATCH, EPOCHS = 37, 8, 3
x = np.random.default_rng(0).normal(size=(SAMPLES, 4)).astype("float32")
y = x.sum(1, keepdims=True)
computed = []


def note(index):
    computed.append(int(index))
    return index


def noted(index, *sample):
    seen = tf.py_function(note, [index], tf.int64)
    with tf.control_dependencies([seen]):
        return tuple(map(tf.identity, sample))


def of_index(index):
    return tf.gather(x, index), tf.gather(y, index)


def pairs(samples=SAMPLES):
    return tf.data.Dataset.from_tensor_slices((x[:samples], y[:samples]))


def counted(dataset):
    return dataset.enumerate().map(lambda i, sample: (i, *sample))


def trained(data, **fit):
    keras.utils.set_random_seed(1)
    with strategy.scope():
        model = keras.Sequential(
            [
                keras.Input((4,)),
                keras.layers.Dense(3, "tanh"),
                keras.layers.Dense(1),
            ]
        )
        optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
        model.compile(tfdp.DistributedOptimizer(optimizer), "mse")
    arrays = data if isinstance(data, tuple) else (data,)
    history = model.fit(
        *arrays,
        epochs=EPOCHS,
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel()],
        **fit,
    )
    return {
        "weights": np.concatenate([w.ravel() for w in model.get_weights()]),
        "loss": history.history["loss"],
        "val_loss": history.history.get("val_loss", []),
        "updates": int(model.optimizer.iterations.numpy()),
    }


WAYS = {
    "marked": lambda: trained(
        counted(pairs()).apply(tfdp.shard).map(noted).batch(BATCH)
    ),
    "shuffled before": lambda: trained(
        pairs().shuffle(SAMPLES, seed=3).apply(tfdp.shard).batch(BATCH)
    ),
    "validated": lambda: trained(
        pairs().apply(tfdp.shard).batch(BATCH).prefetch(2),
        validation_data=pairs(11).apply(tfdp.shard).batch(4),
    ),
    "one sample": lambda: trained(pairs(1).apply(tfdp.shard).batch(BATCH)),
    "a batch of 7": lambda: trained(pairs(12).apply(tfdp.shard).batch(7)),
    "batches of 2": lambda: trained(pairs(7).apply(tfdp.shard).batch(2)),
    "class weights": lambda: trained(
        pairs(24)
        .map(lambda x, y: (x, tf.cast(y > 0, tf.float32)))
        .apply(tfdp.shard)
        .batch(BATCH),
        class_weight={0: 0.5, 1: 2.0},
    ),
    "without end": lambda: trained(
        pairs().repeat().apply(tfdp.shard).batch(BATCH, drop_remainder=True),
        steps_per_epoch=3,
    ),
    "repeated after": lambda: trained(
        pairs(24).apply(tfdp.shard).batch(BATCH).repeat(), steps_per_epoch=3
    ),
    "cached": lambda: trained(
        pairs().apply(tfdp.shard).cache().batch(BATCH).cache()
    ),
    "no weights": lambda: trained(
        pairs().apply(tfdp.shard).batch(BATCH).map(lambda x, y: (x, y, None))
    ),
    "one weight": lambda: trained(
        pairs().apply(tfdp.shard).batch(BATCH).map(lambda x, y: (x, y, 2.0)),
        validation_data=pairs(9)
        .apply(tfdp.shard)
        .batch(BATCH)
        .map(lambda x, y: (x, y, 0.5)),
    ),
    "arrays": lambda: trained((x, y), batch_size=BATCH, shuffle=False),
    "arrays validated": lambda: trained(
        (x, y), batch_size=BATCH, shuffle=False, validation_split=0.3
    ),
    "shuffled range": lambda: trained(
        tfdp.shuffled_range(SAMPLES, seed=5)
        .apply(tfdp.shard)
        .map(of_index)
        .batch(BATCH)
    ),
}

if __name__ == "__main__":
    found = {}
    for name in sys.argv[1:] or WAYS:
        trained_so = WAYS[name]().items()
        found[name] = {k: np.asarray(v).tolist() for k, v in trained_so}
    found["computed"] = computed
    tfdp.testing.report(found)
