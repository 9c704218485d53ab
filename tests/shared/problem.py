"""A small problem and its oracle: plain Keras, one device, one large batch.

Nothing here knows of tfdp, nor of strategies.
"""

import keras
import numpy as np
import tensorflow as tf

GLOBAL_BATCH = 64
EPOCHS = 3
OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.05),
    "momentum": lambda: keras.optimizers.SGD(0.05, momentum=0.9),
    "adam": lambda: keras.optimizers.Adam(0.01),
    "adamw": lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1),
}
# Largest difference of a weight, relative to weights above 1.
TOLERANCE = {"sgd": 1e-6, "momentum": 1e-6, "adam": 1e-5, "adamw": 1e-5}


def arrays(num_samples):
    random = np.random.default_rng(num_samples)
    x = random.normal(size=(num_samples, 8)).astype("float32")
    y = np.tanh(x @ random.normal(size=(8, 1))).astype("float32")
    return x, y


def untuned(data):
    """Without the autotuner, whose end takes long on few cores."""
    options = tf.data.Options()
    options.autotune.enabled = False
    return data.with_options(options)


def dataset(num_samples, batch):
    data = tf.data.Dataset.from_tensor_slices(arrays(num_samples))
    return untuned(data.batch(batch))


def make_model():
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((8,)),
            keras.layers.Dense(
                16, "tanh", kernel_regularizer=keras.regularizers.L2(0.01)
            ),
            keras.layers.Dense(1),
        ]
    )


def train_on_one_device(make_optimizer, num_samples, **fit):
    model = make_model()
    model.compile(make_optimizer(), "mse", metrics=["mae"])
    data = dataset(num_samples, GLOBAL_BATCH)
    fit = {"epochs": EPOCHS, "verbose": 0, **fit}
    history = model.fit(data, validation_data=data, **fit).history
    return model, history


def deviation(actual, expected):
    """Largest difference of weights, relative where they exceed 1."""
    return max(
        float(np.max(np.abs(a - e) / np.maximum(1, np.abs(e))))
        for a, e in zip(actual, expected, strict=True)
    )
