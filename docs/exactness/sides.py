"""What the rows share: a small problem, its oracle, and the two sides."""

import dataclasses

import keras
import numpy as np
import tensorflow as tf

import tfdp

ONE_DEVICE = tf.distribute.get_strategy()
BATCH = 32
FEATURES = 8


def arrays(samples=2 * BATCH):
    """Returns features and labels of a regression."""
    random = np.random.default_rng(samples)
    x = random.normal(size=(samples, FEATURES)).astype("float32")
    y = np.tanh(x @ random.normal(size=(FEATURES, 1))).astype("float32")
    return x, y


def batches(batch=BATCH, samples=2 * BATCH):
    """Returns the same as a dataset."""
    return tf.data.Dataset.from_tensor_slices(arrays(samples)).batch(batch)


def network():
    """Returns a network of two layers, always the same."""
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((FEATURES,)),
            keras.layers.Dense(4, "tanh"),
            keras.layers.Dense(1),
        ]
    )


def sgd(**options):
    """Returns the optimizer of most rows."""
    return keras.optimizers.SGD(**{"learning_rate": 0.1, **options})


def adam(**options):
    """Returns an adaptive optimizer."""
    return keras.optimizers.Adam(0.01, **options)


def trained(
    strategy, make_optimizer, data, make=network, loss="mse", epochs=2, **more
):
    """Compiles a model in the scope of a strategy, and fits it."""
    callbacks = more.pop("callbacks", [])
    with strategy.scope():
        model = make()
        model.compile(make_optimizer(), loss, **more)
    model.fit(data, epochs=epochs, verbose=0, callbacks=callbacks)
    return model


def on_one_device(make_optimizer, data, make=network, loss="mse", epochs=2):
    """Trains the oracle: plain Keras, without any strategy."""
    model, optimizer = make(), make_optimizer()
    # Built in the first step, some begin with other values.
    optimizer.build(model.trainable_variables)
    model.compile(optimizer, loss)
    model.fit(data, epochs=epochs, verbose=0)
    return model


def deviation(model, oracle):
    """Returns the largest difference of weights, relative above 1."""
    return float(
        np.max(
            [
                np.max(np.abs(a - e) / np.maximum(1, np.abs(e)))
                for a, e in zip(
                    model.get_weights(), oracle.get_weights(), strict=True
                )
            ]
        )
    )


def found(findings):
    """Returns the cell of what an audit has found first."""
    return f"found: {next(iter(findings)).severity}"


@dataclasses.dataclass(frozen=True)
class Side:
    """Plain Keras, or Keras with tfdp; the rest of a row is the same."""

    is_tfdp: bool

    @property
    def callbacks(self):
        """Returns the callbacks that the side asks for."""
        return [tfdp.callbacks.DataParallel()] if self.is_tfdp else []

    def strategy(self, replicas=2, reduction=None):
        """Returns a mirrored strategy over parts of the processor.

        Plain, it reduces on one device, unless `reduction="default"`.
        """
        devices = tfdp.testing.logical_cpus(4)[:replicas]
        if self.is_tfdp:
            return tfdp.MirroredStrategy(devices)
        if reduction == "default":
            return tf.distribute.MirroredStrategy(devices)
        return tf.distribute.MirroredStrategy(
            devices, tf.distribute.ReductionToOneDevice()
        )

    def optimizer(self, make, steps=1):
        """Returns an optimizer that accumulates over as many steps."""
        if self.is_tfdp:
            return tfdp.DistributedOptimizer(make(), steps)
        return make(gradient_accumulation_steps=steps) if steps > 1 else make()

    def loss(self, loss):
        """Wraps a loss that is no mean over samples."""
        return tfdp.DistributedLoss(loss) if self.is_tfdp else loss

    def trained(self, make_optimizer, data, strategy=None, steps=1, **more):
        """Trains on the replicas of a strategy, by default on two.

        Plain Keras accumulates in eager mode only, so there with `eager`.
        """
        eager = more.pop("eager", False) and not self.is_tfdp
        return trained(
            strategy or self.strategy(),
            lambda: self.optimizer(make_optimizer, steps),
            data,
            callbacks=[*self.callbacks, *more.pop("callbacks", [])],
            run_eagerly=eager,
            **more,
        )

    def deviation(
        self, make_optimizer, samples=2 * BATCH, steps=1, data=None, **more
    ):
        """Trains on replicas and on one device, and compares.

        `data` makes a dataset out of the size of its batches.
        """
        data = data or (lambda batch: batches(batch, samples))
        strategy = more.pop("strategy", None) or self.strategy()
        oracle = {k: more[k] for k in ("make", "loss", "epochs") if k in more}
        expected = on_one_device(make_optimizer, data(BATCH), **oracle)
        if "loss" in more:
            more["loss"] = self.loss(more["loss"])
        actual = self.trained(
            make_optimizer, data(BATCH // steps), strategy, steps, **more
        )
        return deviation(actual, expected)
