"""Models by which nothing of the estimate of memory was chosen.

Each function returns a model, samples, their targets, a loss, and an optimizer.
"""

import keras
import numpy as np

layers = keras.layers


def _labels(*shape):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return np.zeros(shape, "int32"), loss


def _indices(rows, *shape):
    return np.random.default_rng(0).integers(0, rows, shape).astype("int32")


def text():
    inputs = keras.Input((200,), dtype="int32")
    x = layers.Embedding(20_000, 64)(inputs)
    x = layers.Bidirectional(layers.LSTM(128, return_sequences=True))(x)
    x = layers.Dropout(0.3)(x)
    x = layers.GRU(128)(x)
    model = keras.Model(inputs, layers.Dense(5)(x))
    x = _indices(20_000, 96, 200)
    return model, x, *_labels(96), keras.optimizers.Adam(1e-3)


def unet():
    def twice(x, filters):
        for _ in range(2):
            x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
        return x

    x = inputs = keras.Input((96, 96, 3))
    skipped = []
    for filters in (16, 32, 64):
        x = twice(x, filters)
        skipped.append(x)
        x = layers.MaxPooling2D()(x)
    x = twice(x, 128)
    for filters in (64, 32, 16):
        x = layers.Conv2DTranspose(filters, 2, strides=2)(x)
        x = twice(layers.concatenate([x, skipped.pop()]), filters)
    model = keras.Model(inputs, layers.Conv2D(4, 1)(x))
    x = np.zeros((24, 96, 96, 3), "float32")
    return model, x, *_labels(24, 96, 96), keras.optimizers.Adam(1e-3)


def mobilenet():
    model = keras.applications.MobileNetV2(
        (96, 96, 3), weights=None, classes=10, classifier_activation=None
    )
    x = np.zeros((48, 96, 96, 3), "float32")
    return model, x, *_labels(48), keras.optimizers.SGD(0.1, momentum=0.9)


def efficientnet():
    model = keras.applications.EfficientNetB0(
        input_shape=(64, 64, 3),
        weights=None,
        classes=10,
        classifier_activation=None,
    )
    x = np.zeros((32, 64, 64, 3), "float32")
    return model, x, *_labels(32), keras.optimizers.RMSprop(1e-3, momentum=0.9)


def recommender():
    sizes = 300_000, 100_000
    inputs = {
        f"{n}": keras.Input((20,), dtype="int32", name=f"{n}") for n in sizes
    }
    x = layers.concatenate(
        [
            layers.Flatten()(layers.Embedding(rows, 64)(inputs[f"{rows}"]))
            for rows in sizes
        ]
    )
    for units in (512, 256):
        x = layers.Dense(units, "relu")(x)
    model = keras.Model(inputs, layers.Dense(1)(x))
    x = {f"{n}": _indices(n, 2048, 20) for n in sizes}
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    y = np.zeros((2048, 1), "float32")
    return model, x, y, loss, keras.optimizers.Adagrad(0.1)


def autoencoder():
    x = inputs = keras.Input((8192,))
    for units in (2048, 512, 64, 512, 2048):
        x = layers.Dense(units, "elu")(x)
    model = keras.Model(inputs, layers.Dense(8192, "sigmoid")(x))
    x = np.zeros((512, 8192), "float32")
    return model, x, x, "mse", keras.optimizers.Adam(1e-3)


def language_model():
    inputs = keras.Input((128,), dtype="int32")
    x = layers.Embedding(8000, 192)(inputs)
    for _ in range(3):
        y = layers.LayerNormalization()(x)
        y = layers.MultiHeadAttention(6, 32)(y, y, use_causal_mask=True)
        x = layers.add([x, y])
        y = layers.LayerNormalization()(x)
        y = layers.Dense(768, "gelu")(y)
        x = layers.add([x, layers.Dense(192)(y)])
    x = layers.LayerNormalization()(x)
    model = keras.Model(inputs, layers.Dense(8000)(x))
    x = _indices(8000, 16, 128)
    return model, x, *_labels(16, 128), keras.optimizers.AdamW(1e-3)


def mixed_transformer():
    keras.mixed_precision.set_global_policy("mixed_float16")
    x = inputs = keras.Input((96, 96, 3))
    x = layers.Conv2D(256, 8, strides=8)(x)
    x = layers.Reshape((144, 256))(x)
    for _ in range(4):
        y = layers.LayerNormalization()(x)
        y = layers.MultiHeadAttention(8, 32, dropout=0.1)(y, y)
        x = layers.add([x, y])
        y = layers.LayerNormalization()(x)
        y = layers.Dense(1024, "gelu")(y)
        x = layers.add([x, layers.Dense(256)(y)])
    x = layers.GlobalAveragePooling1D()(x)
    model = keras.Model(inputs, layers.Dense(10, dtype="float32")(x))
    x = np.zeros((24, 96, 96, 3), "float32")
    return model, x, *_labels(24), keras.optimizers.Adam(1e-3)


def attention():
    x = inputs = keras.Input((100, 64))
    for _ in range(2):
        x += layers.MultiHeadAttention(8, 16)(x, x)
    x = layers.GlobalAveragePooling1D()(x)
    model = keras.Model(inputs, layers.Dense(1)(x))
    x, y = np.zeros((64, 100, 64), "float32"), np.zeros((64, 1), "float32")
    return model, x, y, "mse", keras.optimizers.Adam(1e-3)


def video():
    x = inputs = keras.Input((16, 32, 32, 3))
    for filters in (16, 32, 64):
        x = layers.Conv3D(filters, 3, padding="same")(x)
        x = layers.BatchNormalization()(x)
        x = layers.ReLU()(x)
        x = layers.MaxPooling3D()(x)
    x = layers.GlobalAveragePooling3D()(x)
    model = keras.Model(inputs, layers.Dense(10)(x))
    x = np.zeros((32, 16, 32, 32, 3), "float32")
    return model, x, *_labels(32), keras.optimizers.SGD(0.1, momentum=0.9)


def sound():
    x = inputs = keras.Input((4000, 1))
    x = layers.Conv1D(32, 1)(x)
    for rate in (1, 2, 4, 8, 16, 32):
        y = layers.Conv1D(64, 3, padding="causal", dilation_rate=rate)(x)
        gate = layers.Activation("sigmoid")(y[..., :32])
        y = layers.multiply([gate, layers.Activation("tanh")(y[..., 32:])])
        x = layers.add([x, layers.Conv1D(32, 1)(y)])
    model = keras.Model(inputs, layers.Conv1D(16, 1)(x))
    x = np.zeros((16, 4000, 1), "float32")
    return model, x, *_labels(16, 4000), keras.optimizers.Nadam(1e-3)


UNSEEN = {
    f.__name__: f
    for f in (
        text,
        unet,
        attention,
        mobilenet,
        efficientnet,
        recommender,
        autoencoder,
        language_model,
        mixed_transformer,
        video,
        sound,
    )
}
