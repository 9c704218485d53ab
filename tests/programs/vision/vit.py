"""A vision transformer: patches, learned positions, attention, AdamW."""

import keras
import numpy as np
from keras import layers, ops
from program import Program, stream


class Patches(layers.Layer):
    def __init__(self, size):
        super().__init__()
        self.size = size

    def call(self, images):
        patches = ops.image.extract_patches(images, size=self.size)
        shape = ops.shape(patches)
        return ops.reshape(
            patches, (shape[0], patches.shape[1] * patches.shape[2], -1)
        )

    def compute_output_shape(self, shape):
        per_side = shape[1] // self.size
        return (shape[0], per_side**2, self.size**2 * shape[-1])


class PatchEncoder(layers.Layer):
    def __init__(self, patches, dim):
        super().__init__()
        self.projection = layers.Dense(dim)
        self.positions = layers.Embedding(patches, dim)
        self.number = patches

    def call(self, patches):
        positions = ops.arange(0, self.number, 1)[None]
        return self.projection(patches) + self.positions(positions)


def make(way):
    inputs = keras.Input((8, 8, 3))
    x = PatchEncoder(4, 8)(Patches(4)(inputs))
    for _ in range(2):
        normed = layers.LayerNormalization(epsilon=1e-6)(x)
        attended = layers.MultiHeadAttention(2, 4, use_bias=False)(
            normed, normed
        )
        x = layers.Add()([attended, x])
        y = layers.LayerNormalization(epsilon=1e-6)(x)
        y = layers.Dense(16, activation="gelu")(y)
        x = layers.Add()([layers.Dense(8)(y), x])
    x = layers.Flatten()(layers.LayerNormalization(epsilon=1e-6)(x))
    model = keras.Model(inputs, layers.Dense(4)(x))
    model.compile(
        way.optimizer(
            keras.optimizers.AdamW(
                2e-3, weight_decay=1e-2, epsilon=1e-4, clipnorm=1.0
            )
        ),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[
            keras.metrics.SparseCategoricalAccuracy(name="accuracy"),
            keras.metrics.SparseTopKCategoricalAccuracy(2, name="top-2"),
        ],
    )
    return model


def data(batch):
    random = np.random.default_rng(0)
    x = random.uniform(-1, 1, (53, 8, 8, 3)).astype("float32")
    return stream(x, random.integers(0, 4, 53), batch=batch)


PROGRAM = Program(make, data, is_long=True)
