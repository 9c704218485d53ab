"""The networks that are trained, with their data and first weights.

Programs of other libraries build the same from the same numbers.
"""

import numpy as np

BATCH = 32
CLASSES = 10
WIDTH, LENGTH, VOCABULARY, HEADS, BLOCKS = 128, 64, 1000, 4, 2


def inputs_and_labels(network, worker):
    """Returns one batch for a worker, the same at every call."""
    random = np.random.default_rng(worker)
    labels = random.integers(0, CLASSES, BATCH).astype("int32")
    if network == "dense":
        return random.normal(size=(BATCH, 1024)).astype("float32"), labels
    if network == "convolutional":
        return random.normal(size=(BATCH, 28, 28, 1)).astype("float32"), labels
    tokens = random.integers(0, VOCABULARY, (BATCH, LENGTH))
    return tokens.astype("int32"), labels


def first_weights(shapes):
    """Returns weights for these shapes, which train without exploding."""
    random = np.random.default_rng(0)
    return [
        random.normal(size=shape, scale=0.7 * fan_in(shape) ** -0.5).astype(
            "float32"
        )
        if len(shape) > 1
        else np.zeros(shape, "float32")
        for shape in shapes
    ]


def fan_in(shape):
    """Returns how many inputs an output has, by the shape of the kernel."""
    return int(np.prod(shape[:-1]))


def model(keras, network):
    """Builds a network with this Keras, whichever its version."""
    layers = keras.layers
    if network == "dense":
        x = inputs = keras.Input((1024,))
        for _ in range(3):
            x = layers.Dense(2048, activation="relu")(x)
    elif network == "convolutional":
        inputs = keras.Input((28, 28, 1))
        x = layers.Conv2D(32, 3, activation="relu")(inputs)
        x = layers.Conv2D(64, 3, activation="relu")(x)
        x = layers.MaxPooling2D()(x)
        x = layers.Flatten()(x)
        x = layers.Dense(128, activation="relu")(x)
    else:
        inputs = keras.Input((LENGTH,), dtype="int32")
        x = layers.Embedding(VOCABULARY, WIDTH)(inputs)
        for _ in range(BLOCKS):
            attention = layers.MultiHeadAttention(HEADS, WIDTH // HEADS)
            x = layers.LayerNormalization(epsilon=1e-5)(x + attention(x, x))
            hidden = layers.Dense(4 * WIDTH, activation="relu")(x)
            hidden = layers.Dense(WIDTH)(hidden)
            x = layers.LayerNormalization(epsilon=1e-5)(x + hidden)
        x = layers.GlobalAveragePooling1D()(x)
    built = keras.Model(inputs, layers.Dense(CLASSES)(x))
    fresh = first_weights([tuple(weight.shape) for weight in built.weights])
    for weight, value in zip(built.weights, fresh, strict=True):
        # The gains of normalisations stay ones.
        if "gamma" not in weight.name:
            weight.assign(value)
    return built
