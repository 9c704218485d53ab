"""Small trainings of models that may look at parts of a batch."""

import warnings

import keras
import numpy as np
import tensorflow as tf

import tfdp

RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 5)).astype("float32")
Y = RNG.normal(size=(24, 1)).astype("float32")
BATCH = 8


def strategy(replicas):
    return tfdp.MirroredStrategy([f"CPU:{i}" for i in range(replicas)])


def trained(
    make, replicas=2, steps=1, optimizer=None, *, whole=False, samples=24
):
    """Returns a model after an epoch, and what tfdp has told meanwhile."""
    keras.utils.set_random_seed(0)
    with strategy(replicas).scope():
        model = make()
        inner = optimizer or keras.optimizers.SGD(0.1)
        model.compile(tfdp.DistributedOptimizer(inner, steps), "mse")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        history = model.fit(
            # Otherwise of a size that is not known before.
            tf.data.Dataset.from_tensor_slices((X, Y))
            .take(samples)
            .batch(BATCH // steps, drop_remainder=whole),
            verbose=0,
            callbacks=[tfdp.callbacks.DataParallel()],
        )
    messages = [str(each.message) for each in told]
    ours = [each for each in messages if "Received:" in each]
    return model, ours, history.history


def difference(make, **settings):
    one, *_ = trained(make, replicas=1, **settings)
    two, told, _ = trained(make, replicas=2, **settings)
    assert not told
    return max(
        abs(a - b).max()
        for a, b in zip(one.get_weights(), two.get_weights(), strict=True)
    )


def dense(kind):
    def make():
        inputs = keras.Input((5,))
        return kind(inputs, keras.layers.Dense(1)(inputs))

    return make
