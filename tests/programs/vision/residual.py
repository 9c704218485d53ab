"""A residual network: synchronised statistics, a schedule, clipped AdamW."""

import keras
import numpy as np
from keras import layers
from program import Other, Program, stream


def block(x, filters, stride):
    shortcut = layers.Conv2D(filters, 1, stride, use_bias=False)(x)
    for each in (stride, 1):
        x = layers.Conv2D(filters, 3, each, "same", use_bias=False)(x)
        x = layers.BatchNormalization(synchronized=True, momentum=0.8)(x)
        x = layers.Activation("gelu")(x)
    return layers.Add()([x, shortcut])


def make(way):
    inputs = keras.Input((8, 8, 3))
    x = layers.Rescaling(2.0, offset=-1.0)(inputs)
    x = block(x, 4, 2)
    x = block(x, 6, 2)
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, layers.Dense(3, activation="softmax")(x))
    rate = keras.optimizers.schedules.CosineDecay(
        1e-3, 8, alpha=0.1, warmup_target=1e-2, warmup_steps=3
    )
    optimizer = keras.optimizers.AdamW(
        rate, weight_decay=0.01, global_clipnorm=0.5, epsilon=1e-4
    )
    optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
    model.compile(
        way.optimizer(optimizer),
        keras.losses.CategoricalCrossentropy(label_smoothing=0.1),
        metrics=["accuracy", keras.metrics.TopKCategoricalAccuracy(k=2)],
    )
    return model


def data(batch):
    random = np.random.default_rng(0)
    y = random.integers(0, 3, 53)
    x = random.uniform(size=(53, 8, 8, 3)) + 0.2 * y[:, None, None, None]
    train = (x.astype("float32"), np.eye(3, dtype="float32")[y])
    held_out = stream(*(part[::3].copy() for part in train), batch=8)["x"]
    return stream(*train, batch=batch) | {"validation_data": held_out}


PROGRAM = Program(
    make,
    data,
    differs={"accumulating": Other("statistics are a micro-batch's")},
    is_long=True,
)
