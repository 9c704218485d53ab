"""Transfer learning: a frozen base, then a thawed one at a lower rate."""

import keras
import numpy as np
from keras import layers
from program import Program, stream


def compile_for(model, way, rate):
    model.compile(
        way.optimizer(keras.optimizers.Adam(rate, epsilon=1e-4)),
        keras.losses.BinaryCrossentropy(from_logits=True),
        metrics=[keras.metrics.BinaryAccuracy(threshold=0.0)],
    )


def make(way):
    base = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(4, 3, 2, "same", use_bias=False),
            layers.BatchNormalization(),
            layers.Activation("gelu"),
            layers.DepthwiseConv2D(3, padding="same"),
        ],
        name="base",
    )
    base.trainable = False
    inputs = keras.Input((8, 8, 3))
    x = base(inputs, training=False)
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, layers.Dense(1)(x))
    compile_for(model, way, 1e-2)
    return model


def thaw(model, way):
    base = model.get_layer("base")
    base.trainable = True
    for layer in base.layers:
        # Its statistics are those of other images.
        if isinstance(layer, layers.BatchNormalization):
            layer.trainable = False
    compile_for(model, way, 1e-3)


def data(batch):
    random = np.random.default_rng(0)
    x = random.uniform(-1, 1, (53, 8, 8, 3)).astype("float32")
    y = (x.mean(axis=(1, 2, 3)) > 0).astype("float32")[:, None]
    return stream(x, y, batch=batch) | {
        "validation_data": stream(x[:20], y[:20], batch=8)["x"]
    }


PROGRAM = Program(make, data, then=thaw, is_long=True)
