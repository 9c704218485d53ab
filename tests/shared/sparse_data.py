"""Sparse and ragged data, and models that read them.

`python sparse_data.py`, on every worker, reports what they come to.
"""

import contextlib
import sys

import keras
import numpy as np
import scipy.sparse
import tensorflow as tf

BATCH = 16


def arrays(samples):
    """No sample is empty, as a mean over it would be no number."""
    random = np.random.default_rng(samples)
    x = random.normal(size=(samples, 8)).astype("float32")
    x[random.random((samples, 8)) < 0.6] = 0
    x[np.arange(samples), np.arange(samples) % 8] = 1
    y = np.tanh(x @ random.normal(size=(8, 1))).astype("float32")
    return x, y


def ragged(x):
    return tf.RaggedTensor.from_row_lengths(x[x != 0], (x != 0).sum(1))


def of_vectors(x):
    return tf.RaggedTensor.from_row_lengths(
        np.stack([x[x != 0], x[x != 0] ** 2], 1), (x != 0).sum(1)
    )


def batched(x, y):
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(BATCH)
    options = tf.data.Options()
    options.autotune.enabled = False
    return data.with_options(options)


def made_of_batches(x, y):
    return batched(x, y).map(lambda x, y: (tf.sparse.from_dense(x), y))


# By name: how `fit` is given the samples, and how the model sees them.
KINDS = {
    "sparse": (lambda x, y: (batched(tf.sparse.from_dense(x), y),), "sparse"),
    "sparse by batches": (lambda x, y: (made_of_batches(x, y),), "sparse"),
    "sparse of unknown number": (
        lambda x, y: (made_of_batches(x, y).filter(lambda *_: True),),
        "sparse",
    ),
    "scipy": (lambda x, y: (scipy.sparse.csr_matrix(x), y), "sparse"),
    "sparse beside dense": (
        lambda x, y: (
            batched({"a": tf.sparse.from_dense(x), "b": x[:, :2]}, y),
        ),
        "both",
    ),
    "ragged": (lambda x, y: (batched(ragged(x), y),), "ragged"),
    "ragged of vectors": (lambda x, y: (batched(of_vectors(x), y),), "vectors"),
}


@keras.saving.register_keras_serializable("tests")
class OfRagged(keras.Model):
    """Means over ragged rows, which of no rows are none."""

    def __init__(self, width):
        super().__init__()
        self.dense = keras.layers.Dense(1)
        self.width = width

    def build(self, shape):
        self.dense.build((None, self.width))

    def call(self, x):
        if isinstance(x, keras.KerasTensor):
            return keras.KerasTensor((None, 1))
        means = tf.reduce_mean(x, axis=1)
        return self.dense(tf.reshape(means, [-1, self.width]))


def model_of(how):
    keras.utils.set_random_seed(1)
    if how in ("ragged", "vectors"):
        return OfRagged(1 if how == "ragged" else 2)
    x = keras.Input((8,), sparse=True, name="a")
    hidden = keras.layers.Dense(4, "tanh")(x)
    inputs = x
    if how == "both":
        other = keras.Input((2,), name="b")
        hidden = keras.layers.Concatenate()([hidden, other])
        inputs = {"a": x, "b": other}
    return keras.Model(inputs, keras.layers.Dense(1)(hidden))


def results(kind, samples, strategy=None, optimizer=keras.optimizers.SGD):
    """Trains, evaluates and predicts."""
    import tfdp

    make, how = KINDS[kind]
    data = make(*arrays(samples))
    scope = strategy.scope() if strategy else contextlib.nullcontext()
    with scope:
        model = model_of(how)
        own = optimizer(0.1)
        if strategy:
            own = tfdp.DistributedOptimizer(own)
        model.compile(own, "mse", metrics=["mae"])
    callbacks = [tfdp.callbacks.DataParallel()] if strategy else []
    options = {"verbose": 0}
    if len(data) == 2:
        options["batch_size"] = BATCH
    history = model.fit(
        *data,
        epochs=2,
        callbacks=callbacks,
        validation_data=data if len(data) == 2 else data[0],
        **({"shuffle": False} if len(data) == 2 else {}),
        **options,
    ).history
    inputs = data[0]
    if len(data) == 1:
        inputs = inputs.map(lambda x, y: x)
    return {
        "weights": [w.tolist() for w in model.get_weights()],
        "history": {name: list(map(float, v)) for name, v in history.items()},
        "evaluated": list(map(float, model.evaluate(*data, **options))),
        "predicted": model.predict(inputs, **options).tolist(),
    }


def seen_by_epoch(strategy, epochs=3):
    """Which samples of a scipy array this worker sees, shuffled."""
    import tfdp

    x = scipy.sparse.identity(48, "float32", "csr")
    with strategy.scope():
        model = keras.Sequential(
            [
                keras.Input((48,), sparse=True),
                keras.layers.Dense(1, kernel_initializer="zeros"),
            ]
        )
        model.compile(
            tfdp.DistributedOptimizer(keras.optimizers.SGD(1.0)),
            tfdp.DistributedLoss(keras.losses.MeanSquaredError("sum")),
        )
    kernels = []
    for _ in range(epochs):
        before = model.get_weights()
        model.fit(
            x,
            np.ones((48, 1), "float32"),
            batch_size=BATCH,
            verbose=0,
            callbacks=[tfdp.callbacks.DataParallel()],
        )
        moved = (model.get_weights()[0] != before[0]).sum()
        kernels.append(int(moved))
        model.set_weights([w * 0 for w in before])
    return kernels


if __name__ == "__main__":
    import tfdp

    strategy = tfdp.auto_strategy()
    found = {kind: results(kind, 33, strategy) for kind in sys.argv[1:]}
    found["seen"] = seen_by_epoch(strategy)
    tfdp.testing.report(found)
