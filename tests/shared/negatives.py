"""Samples that are told from all others of their batch."""

import keras
import numpy as np
import tensorflow as tf

import tfdp

BATCH = 16
SAMPLES = 35  # A last batch of 3, for up to 4 replicas.


def views():
    draw = np.random.default_rng(0)
    x = draw.normal(size=(SAMPLES, 6)).astype("float32")
    return x, x + draw.normal(0, 0.1, x.shape).astype("float32")


class Contrastive(keras.Model):
    """Tells the second view of a sample from those of all others.

    Args:
        rows: `"all"` or `"own"`: of which samples each replica asks.
        gather: What puts the rows of replicas together.
    """

    def __init__(self, rows, gather):
        super().__init__()
        self.encoder = keras.Sequential(
            [
                keras.Input((6,)),
                keras.layers.Dense(5, "tanh"),
                keras.layers.Dense(4),
            ]
        )
        self.rows = rows
        self.gather = gather
        self.built = True

    def train_step(self, data):
        one, other = data
        with tf.GradientTape() as tape:
            queries, keys = self.encoder(one), self.encoder(other)
            everyones = self.gather(keys)
            place = self.gather(tf.range(tf.shape(one)[0]))
            if self.rows == "all":
                queries = self.gather(queries)
                labels = tf.range(tf.shape(place)[0])
            else:
                start = start_of(queries)
                labels = start + tf.range(tf.shape(queries)[0])
                # Of a row that is made up, after the last.
                labels %= tf.shape(place)[0]
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(
                labels, queries @ tf.transpose(everyones)
            )
        weights = self.encoder.trainable_variables
        self.optimizer.apply(tape.gradient(loss, weights), weights)
        return {"loss": loss}


def start_of(rows):
    context = tf.distribute.get_replica_context()
    sizes = tfdp.gather(tf.shape(rows)[:1])
    return tf.reduce_sum(sizes[: context.replica_id_in_sync_group])


class Centered(keras.layers.Layer):
    """Subtracts the mean over the batch."""

    def __init__(self, gather):
        super().__init__()
        self.gather = gather

    def call(self, x):
        return x - tf.reduce_mean(self.gather(x), axis=0)


def trained(model, optimizer, x, y, **kwargs):
    """Returns the weights after two epochs."""
    with model.distribute_strategy.scope():
        model.compile(optimizer, **kwargs)
    callbacks = (
        [tfdp.callbacks.DataParallel()]
        if isinstance(optimizer, tfdp.DistributedOptimizer)
        else []
    )
    model.fit(
        x,
        y,
        batch_size=BATCH,
        epochs=2,
        shuffle=False,
        verbose=0,
        callbacks=callbacks,
    )
    return model.get_weights()


def contrastive(rows, gather=tfdp.gather):
    keras.utils.set_random_seed(0)
    return Contrastive(rows, gather)


def of_worker():
    """What each worker of several reports."""
    strategy = tfdp.auto_strategy()
    with strategy.scope():
        model = contrastive("own")
        optimizer = tfdp.DistributedOptimizer(keras.optimizers.SGD(0.5))
    weights = trained(model, optimizer, *views())
    return [weight.tolist() for weight in weights]


def centered(gather=tfdp.gather, **normalization):
    keras.utils.set_random_seed(0)
    layers = [keras.Input((6,)), keras.layers.Dense(5), Centered(gather)]
    if normalization:
        layers.append(keras.layers.BatchNormalization(**normalization))
    return keras.Sequential([*layers, keras.layers.Dense(6, "tanh")])
