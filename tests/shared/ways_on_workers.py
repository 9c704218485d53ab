"""Trains on several workers, by each way to synchronise in turn."""

import sys

import keras
import local_updates
import tensorflow as tf

import tfdp

KINDS = {
    "nesterov": lambda: keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True),
    "AdamW": lambda: keras.optimizers.AdamW(
        0.01, weight_decay=0.1, global_clipnorm=0.2
    ),
}
SYNC_EVERY = 3


def outer():
    return keras.optimizers.SGD(0.7, momentum=0.9, nesterov=True)


WAYS = {
    "local": lambda: tfdp.LocalSGD(SYNC_EVERY),
    "averaged": lambda: tfdp.LocalSGD(SYNC_EVERY, start=3, buffers="average"),
    "DiLoCo": lambda: tfdp.DiLoCo(outer(), SYNC_EVERY, start=3),
    "delayed": tfdp.Delayed,
}
NUM_SAMPLES = 241


def trained(strategy, way, kind, steps):
    with strategy.scope():
        model = local_updates.make_model()
        optimizer = tfdp.DistributedOptimizer(
            KINDS[kind](), steps, synchronization=WAYS[way]()
        )
        model.compile(optimizer, "mse")
    data = tf.data.Dataset.from_tensor_slices(
        local_updates.arrays(NUM_SAMPLES)
    ).batch(local_updates.GLOBAL_BATCH // steps)
    # A second fit goes on with what replicas have kept apart.
    for epochs in (1, local_updates.EPOCHS - 1):
        model.fit(
            data,
            epochs=epochs,
            verbose=0,
            callbacks=[tfdp.callbacks.DataParallel()],
        )
    return {
        "weights": [v.numpy().tolist() for v in model.trainable_variables],
        "updates": int(optimizer.iterations.numpy()),
    }


if __name__ == "__main__":
    strategy = tfdp.auto_strategy()
    tfdp.testing.report(
        [
            trained(strategy, way, kind, int(steps))
            for way, kind, steps in (text.split(",") for text in sys.argv[1:])
        ]
    )
