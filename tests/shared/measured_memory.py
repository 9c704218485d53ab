"""Trains a model, and tells what memory that has taken, and what was estimated.

    python measured_memory.py MODEL [sharded]

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


def kept(model):
    optimizer = model.optimizer
    if isinstance(optimizer.synchronization, tfdp.ShardedState):
        # One worker cannot look at the slots of the others.
        state = max(optimizer.state_bytes())
    else:
        state = sum(each.numpy().nbytes for each in optimizer.variables)
    return state + sum(each.numpy().nbytes for each in model.variables)


def main(name, **options):
    strategy = tfdp.auto_strategy()
    # From one large piece the allocator cuts what it is asked for, and no more.
    tf.raw_ops.Empty(shape=[_LARGE], dtype=tf.int8)
    with strategy.scope():
        model, data = build(name, **options)
        model.optimizer.build(model.trainable_variables)
    repeated = tf.data.Dataset.from_tensors(data).repeat()
    # A whole batch for each worker.
    dataset = strategy.distribute_datasets_from_function(lambda _: repeated)
    steps = 2 * getattr(model.optimizer, "accumulation_steps", 1)
    model.fit(dataset, steps_per_epoch=steps, verbose=0, shuffle=False)
    idle = info()["current"]
    tf.config.experimental.reset_memory_stats("CPU:0")
    model.fit(dataset, steps_per_epoch=steps, verbose=0, shuffle=False)
    step = info()["peak"] - idle
    rows = keras.tree.flatten(data)[0].shape[0]
    estimate = tfdp.estimate(model, data, per_replica_batch=rows)
    # The allocator would count the pieces that it was left with as built.
    return {"measured": kept(model) + step, "estimate": estimate.total}


if __name__ == "__main__":
    sharded = {"synchronization": tfdp.ShardedState()}
    found = main(sys.argv[1], **(sharded if "sharded" in sys.argv else {}))
    if os.environ.get("TF_CONFIG"):
        tfdp.testing.report(found)
    print(json.dumps(found))
