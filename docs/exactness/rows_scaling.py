"""Rows A: loss scaling, and optimizers with ways of their own."""

import keras
import numpy as np
import tensorflow as tf
from sides import (
    BATCH,
    ONE_DEVICE,
    adam,
    arrays,
    batches,
    deviation,
    on_one_device,
    sgd,
    trained,
)

import tfdp


def _scaled(side, **options):
    if side.is_tfdp:
        options["loss_scale"] = "dynamic"
        return tfdp.DistributedOptimizer(sgd(), **options)
    return keras.optimizers.LossScaleOptimizer(sgd(), **options)


def a8(side):
    """Dynamic loss scale, and an overflow on the second replica alone.

    Test: test_loss_scale.py::test_any_replica_skips_the_update_for_all
    """
    strategy = side.strategy()
    x, y = arrays()
    y[BATCH - 1] = 1e37
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(BATCH)
    oracle = on_one_device(
        lambda: keras.optimizers.LossScaleOptimizer(sgd()), data
    )
    actual = trained(strategy, lambda: _scaled(side), data)
    return deviation(actual, oracle)


def a9(side):
    """The loss scale that 160 overflows in a row leave of 8.

    Test: test_loss_scale.py::test_the_scale_has_a_floor
    """
    strategy = side.strategy()
    x, y = arrays()
    model = trained(
        strategy,
        lambda: _scaled(side, initial_scale=8.0),
        tf.data.Dataset.from_tensors((x, y * np.inf)).repeat(160),
        epochs=1,
    )
    return float(model.optimizer.dynamic_scale.numpy())


def a13(side):
    """Nadam, Adafactor and ScheduleFreeAdamW, accumulating; plain is eager.

    Test: test_parity.py::
    test_training_equals_one_device_with_one_large_batch
    """
    kinds = ("Nadam", "Adafactor", "ScheduleFreeAdamW")
    return max(
        side.deviation(
            lambda kind=kind, **options: getattr(keras.optimizers, kind)(
                0.01, **options
            ),
            steps=2,
            eager=True,
        )
        for kind in kinds
    )


def a14(side):
    """ScheduleFreeAdamW whose state is made by the first step of `fit`.

    Test: test_parity.py::
    test_training_equals_one_device_with_one_large_batch
    """

    def make():
        return keras.optimizers.ScheduleFreeAdamW(0.01)

    oracle = on_one_device(make, batches())
    if side.is_tfdp:
        return deviation(side.trained(make, batches()), oracle)
    return deviation(trained(ONE_DEVICE, make, batches()), oracle)


def _tokens():
    random = np.random.default_rng(0)
    tokens = random.integers(0, 5, (2 * BATCH, 6))
    y = tokens.mean(1, keepdims=True).astype("float32")
    return tf.data.Dataset.from_tensor_slices((tokens, y)).batch(BATCH)


def _reader(model_class=keras.Model):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((6,), dtype="int32")
    hidden = keras.layers.Embedding(5, 3)(inputs)
    outputs = keras.layers.Dense(1)(keras.layers.Flatten()(hidden))
    return model_class(inputs, outputs, name="reader")


def a14_sparse(side):
    """A constant loss scale of 8, and an Embedding.

    Test: test_parity.py::
    test_training_equals_one_device_with_one_large_batch
    """
    strategy = side.strategy()
    oracle = on_one_device(sgd, _tokens(), _reader)
    if side.is_tfdp:
        make = lambda: tfdp.DistributedOptimizer(sgd(), loss_scale=8)  # noqa: E731
    else:
        make = lambda: sgd(loss_scale_factor=8)  # noqa: E731
    return deviation(trained(strategy, make, _tokens(), _reader), oracle)


class _Summed(keras.Model):
    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x, y, self(x))
        gradients = tape.gradient(loss, self.trainable_weights)
        self.optimizer.apply(
            [tf.convert_to_tensor(g) for g in gradients],
            self.trainable_weights,
        )
        return {"loss": loss}


def a15(side):
    """Adam, and an Embedding that reads a token several times in a batch.

    Test: test_optimizer.py::test_repeated_tokens_equal_a_dense_gradient
    """
    oracle = on_one_device(adam, _tokens(), lambda: _reader(_Summed))
    actual = side.trained(adam, _tokens(), make=_reader)
    return deviation(actual, oracle)
