"""Trains a model, and tells what memory that has taken, and what was estimated.

    python measured_memory.py MODEL

What TensorFlow's allocator has handed out at most is the measure, on processors
as on GPUs.
"""

import json
import sys

import keras
import numpy as np
import tensorflow as tf

import tfdp

_LARGE = 8 * 2**30


def info():
    return tf.config.experimental.get_memory_info("CPU:0")


def dense():
    layers = [keras.layers.Dense(4096, "relu") for _ in range(3)]
    model = keras.Sequential(
        [keras.Input((4096,)), *layers, keras.layers.Dense(10)]
    )
    return (
        model,
        (4096,),
        (),
        "sparse_categorical_crossentropy",
        keras.optimizers.Adam(1e-4),
        2048,
    )


def conv():
    x = inputs = keras.Input((64, 64, 3))
    for filters in (32, 32, 64, 64):
        y = keras.layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        y = keras.layers.BatchNormalization()(y)
        y = keras.layers.Activation("relu")(y)
        y = keras.layers.Conv2D(filters, 3, padding="same", use_bias=False)(y)
        y = keras.layers.BatchNormalization()(y)
        x = keras.layers.Conv2D(filters, 1)(x)
        x = keras.layers.Activation("relu")(keras.layers.add([x, y]))
        if filters == 32:
            x = keras.layers.MaxPooling2D()(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(10)(x))
    return (
        model,
        (64, 64, 3),
        (),
        "sparse_categorical_crossentropy",
        keras.optimizers.SGD(0.1, momentum=0.9),
        96,
    )


def transformer():
    x = inputs = keras.Input((128, 256))
    for _ in range(4):
        y = keras.layers.LayerNormalization()(x)
        y = keras.layers.MultiHeadAttention(8, 32, dropout=0.1)(y, y)
        x = keras.layers.add([x, keras.layers.Dropout(0.1)(y)])
        y = keras.layers.LayerNormalization()(x)
        y = keras.layers.Dense(1024, "gelu")(y)
        y = keras.layers.Dense(256)(y)
        x = keras.layers.add([x, keras.layers.Dropout(0.1)(y)])
    model = keras.Model(inputs, keras.layers.Dense(100)(x))
    return (
        model,
        (128, 256),
        (128,),
        "sparse_categorical_crossentropy",
        keras.optimizers.AdamW(1e-4),
        48,
    )


def embedding():
    inputs = keras.Input((64,), dtype="int32")
    x = keras.layers.Embedding(400_000, 128)(inputs)
    x = keras.layers.Dense(256, "relu")(x)
    x = keras.layers.GlobalAveragePooling1D()(x)
    model = keras.Model(inputs, keras.layers.Dense(10)(x))
    return (
        model,
        (64,),
        (),
        "sparse_categorical_crossentropy",
        keras.optimizers.Adam(1e-4),
        2048,
    )


def rnn():
    inputs = keras.Input((100, 64))
    x = keras.layers.LSTM(256, return_sequences=True)(inputs)
    x = keras.layers.GRU(256, return_sequences=True)(x)
    model = keras.Model(inputs, keras.layers.Dense(10)(x))
    return (
        model,
        (100, 64),
        (100,),
        "sparse_categorical_crossentropy",
        keras.optimizers.RMSprop(1e-3),
        256,
    )


def mixed():
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    inputs = keras.Input((64, 512))
    x = inputs
    for _ in range(4):
        x = keras.layers.Dense(1024, "relu")(x)
        x = keras.layers.LayerNormalization()(x)
    x = keras.layers.Dense(10, dtype="float32")(x)
    return (
        keras.Model(inputs, x),
        (64, 512),
        (64,),
        "sparse_categorical_crossentropy",
        keras.optimizers.Adam(1e-4),
        512,
    )


MODELS = {
    f.__name__: f for f in (dense, conv, transformer, embedding, rnn, mixed)
}


def batch(shape, y_shape, size, model):
    random = np.random.default_rng(0)
    if model.inputs[0].dtype == "int32":
        x = random.integers(0, 400_000, (size, *shape)).astype("int32")
    else:
        x = random.normal(size=(size, *shape)).astype("float32")
    return x, random.integers(0, 10, (size, *y_shape)).astype("int32")


def build(name, **options):
    model, shape, y_shape, loss, optimizer, size = MODELS[name]()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(tfdp.DistributedOptimizer(optimizer, **options), loss)
    return model, batch(shape, y_shape, size, model)


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
    tensors = tuple(map(tf.constant, data))
    dataset = tf.data.Dataset.from_tensors(tensors).repeat()
    steps = 2 * getattr(model.optimizer, "accumulation_steps", 1)
    model.fit(dataset, steps_per_epoch=steps, verbose=0, shuffle=False)
    idle = info()["current"]
    tf.config.experimental.reset_memory_stats("CPU:0")
    model.fit(dataset, steps_per_epoch=steps, verbose=0, shuffle=False)
    step = info()["peak"] - idle
    return {"built": built, "step": step, "model": model, "data": tensors}


if __name__ == "__main__":
    found = main(sys.argv[1])
    estimate = tfdp.estimate(found.pop("model"), found.pop("data"))
    found["estimate"] = estimate.total
    print(estimate, file=sys.stderr)
    print(json.dumps(found))
