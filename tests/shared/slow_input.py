"""Trains on samples that take long to read, in the ways they can be given."""

import time

import keras
import numpy as np
import tensorflow as tf

import tfdp
from tfdp.callbacks.counted_model import all_read_all

SECONDS, BATCH, SAMPLES = 0.02, 8, 80
strategy = tfdp.auto_strategy()
x = np.random.default_rng(0).normal(size=(SAMPLES, 3)).astype("float32")
y = x.sum(axis=1, keepdims=True)


def slow(x, y):
    def read(x):
        time.sleep(SECONDS)
        return x

    return tf.ensure_shape(tf.numpy_function(read, [x], x.dtype), x.shape), y


def compiled():
    with strategy.scope():
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        optimizer = tfdp.DistributedOptimizer(keras.optimizers.SGD(0.02))
        model.compile(optimizer, "mse")
    return model


def measured(data):
    monitor = tfdp.callbacks.ThroughputMonitor(verbose=0)
    seen = []
    witness = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: seen.append(all_read_all(strategy))
    )
    callbacks = [tfdp.callbacks.DataParallel(), monitor, witness]
    compiled().fit(data, verbose=0, callbacks=callbacks)
    limit = monitor.limit()
    return {
        "all read all": seen[0],
        "kind": limit.kind,
        "words": str(limit),
    }


samples = tf.data.Dataset.from_tensor_slices((x, y))
whole = samples.map(slow).batch(BATCH)
marked = samples.apply(tfdp.shard).map(slow).batch(BATCH)
own = strategy.distribute_datasets_from_function(
    lambda context: (
        samples.shard(context.num_input_pipelines, context.input_pipeline_id)
        .map(slow)
        .batch(BATCH // context.num_input_pipelines)
    )
)


def noted(data):
    return [str(each) for each in tfdp.audit(compiled(), data).of("note")]


tfdp.testing.report(
    {
        "whole": measured(whole),
        "marked": measured(marked),
        "own shards": measured(own),
        "notes": {
            "whole": noted(whole),
            "marked": noted(marked),
            "arrays": noted((x, y)),
        },
    }
)
