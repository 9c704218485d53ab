"""Translation with teacher forcing; padding counts nowhere."""

import keras
import numpy as np
from keras import layers
from program import Program, stream


def make(way):
    source = keras.Input((5,), dtype="int32", name="source")
    target = keras.Input((4,), dtype="int32", name="target")
    embedded = layers.Embedding(12, 6)(source)
    _, state_h, state_c = layers.LSTM(6, return_state=True)(embedded)
    x = layers.Embedding(10, 6)(target)
    x = layers.LSTM(6, return_sequences=True)(
        x, initial_state=[state_h, state_c]
    )
    model = keras.Model(
        {"source": source, "target": target}, layers.Dense(10)(x)
    )
    model.compile(
        way.optimizer(keras.optimizers.RMSprop(1e-2, epsilon=1e-4)),
        way.loss(
            keras.losses.SparseCategoricalCrossentropy(
                from_logits=True, ignore_class=0
            )
        ),
        weighted_metrics=[keras.metrics.SparseCategoricalAccuracy()],
    )
    return model


def data(batch):
    random = np.random.default_rng(0)
    target = random.integers(2, 10, (53, 5))
    target[:, 0] = 1
    length = random.integers(2, 6, (53, 1))
    target = np.where(np.arange(5) < length, target, 0).astype("int32")
    x = {
        "source": random.integers(0, 12, (53, 5)).astype("int32"),
        "target": target[:, :-1],
    }
    is_word = (target[:, 1:] != 0).astype("float32")
    return stream(x, target[:, 1:], is_word, batch=batch)


PROGRAM = Program(make, data, is_long=True)
