"""Trains a model, and tells what memory that has taken, and what was estimated.

    python measured_memory.py MODEL

What TensorFlow's allocator has handed out at most is the measure, on processors
as on GPUs; on processors another one than by default, which would not count
tensors below 256 KiB.
"""

import json
import os
import sys

os.environ["TF_CPU_ALLOCATOR_USE_BFC"] = "true"

import keras
import tensorflow as tf
from seen_models import SEEN
from unseen_models import UNSEEN

import tfdp

_LARGE = 8 * 2**30


def info():
    return tf.config.experimental.get_memory_info("CPU:0")


def build(name, **options):
    model, x, y, loss, optimizer = {**SEEN, **UNSEEN}[name]()
    model.compile(tfdp.DistributedOptimizer(optimizer, **options), loss)
    return model, keras.tree.map_structure(tf.constant, (x, y))


def main(name, **options):
    strategy = tfdp.auto_strategy()
    # From one large piece the allocator cuts what it is asked for, and no more.
    tf.raw_ops.Empty(shape=[_LARGE], dtype=tf.int8)
    with strategy.scope():
        model, data = build(name, **options)
        model.optimizer.build(model.trainable_variables)
    # The allocator would count the pieces that it was left with.
    built = sum(
        each.numpy().nbytes
        for each in [*model.variables, *model.optimizer.variables]
    )
    dataset = tf.data.Dataset.from_tensors(data).repeat()
    steps = 2 * getattr(model.optimizer, "accumulation_steps", 1)
    model.fit(dataset, steps_per_epoch=steps, verbose=0, shuffle=False)
    idle = info()["current"]
    tf.config.experimental.reset_memory_stats("CPU:0")
    model.fit(dataset, steps_per_epoch=steps, verbose=0, shuffle=False)
    step = info()["peak"] - idle
    return {"built": built, "step": step, "model": model, "data": data}


if __name__ == "__main__":
    found = main(sys.argv[1])
    estimate = tfdp.estimate(found.pop("model"), found.pop("data"))
    found["estimate"] = estimate.total
    print(estimate, file=sys.stderr)
    print(json.dumps(found))
