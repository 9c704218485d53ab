"""Local updates as plain Keras would do them: N whole models on one device.

Nothing here knows of tfdp, nor of strategies.
"""

import keras
import numpy as np
import tensorflow as tf

GLOBAL_BATCH, EPOCHS = 64, 3


def arrays(num_samples):
    random = np.random.default_rng(0)
    x = random.normal(size=(256, 8)).astype("float32")
    y = random.normal(size=(256, 1)).astype("float32")
    return x[:num_samples], y[:num_samples]


def make_model(constraint="non_neg"):
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((8,)),
            keras.layers.Dense(
                16, "tanh", kernel_regularizer=keras.regularizers.L2(0.01)
            ),
            keras.layers.Dense(1, kernel_constraint=constraint),
        ]
    )


class Replica:
    """A model, its optimizer, and the samples since the last round."""

    def __init__(self, make_optimizer):
        self.model = make_model()
        self.variables = self.model.trainable_variables
        self.optimizer = make_optimizer()
        self.optimizer.build(self.variables)
        self.begin = [v.numpy() for v in self.optimizer.variables]
        self.seen = 0
        self.gradient = tf.function(self._gradient, reduce_retracing=True)
        self.update = tf.function(
            lambda g: self.optimizer.apply(g, self.variables)
        )

    def _gradient(self, x, y):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(self.model(x, training=True) - y))
            loss += tf.add_n(self.model.losses)
        return tape.gradient(loss, self.variables)

    def gradient_of(self, x, y):
        if len(x):
            return self.gradient(tf.constant(x), tf.constant(y))
        return [tf.zeros_like(v.value) for v in self.variables]

    @property
    def slots(self):
        apart = {id(self.optimizer.iterations)}
        apart.add(id(self.optimizer.learning_rate))
        return [
            (v, begin)
            for v, begin in zip(
                self.optimizer.variables, self.begin, strict=True
            )
            if id(v) not in apart
        ]


def simulate(
    make_optimizer,
    replicas,
    sync_every,
    *,
    num_samples=256,
    steps=1,
    start=0,
    buffers="maintain",
    make_outer=None,
):
    """Returns the weights after `EPOCHS`, of one model for each replica."""
    everyone = [Replica(make_optimizer) for _ in range(replicas)]
    outer = make_outer() if make_outer else None
    anchor = make_model().trainable_variables
    if outer:
        outer.build(anchor)
    updates = in_round = 0

    def meet(ends_early):
        seen = np.array([r.seen for r in everyone], "float64")
        means = [
            np.average([v.numpy() for v in of_all], axis=0, weights=seen)
            for of_all in zip(*(r.variables for r in everyone), strict=True)
        ]
        if outer and not ends_early:
            moved = [
                tf.constant(a.numpy() - m.astype("float32"))
                for a, m in zip(anchor, means, strict=True)
            ]
            outer.apply(moved, anchor)
            means = [a.numpy() for a in anchor]
        for a, mean in zip(anchor, means, strict=True):
            a.assign(mean)
        for replica in everyone:
            replica.seen = 0
            for v, mean in zip(replica.variables, means, strict=True):
                v.assign(mean)
            if replica.optimizer.use_ema and not ends_early:
                average_of_weights(seen)
        if not ends_early and buffers != "maintain":
            settle_slots()

    def average_of_weights(seen):
        kept = [r.optimizer._model_variables_moving_average for r in everyone]
        for of_all in zip(*kept, strict=True):
            mean = np.average([v.numpy() for v in of_all], axis=0, weights=seen)
            for v in of_all:
                v.assign(mean)

    def settle_slots():
        for of_all in zip(*(r.slots for r in everyone), strict=True):
            mean = np.average(
                [v.numpy() for v, _ in of_all], axis=0, weights=seen_by
            )
            for v, begin in of_all:
                if buffers == "average":
                    v.assign(mean)
                elif buffers == "reset":
                    v.assign(begin)

    x, y = arrays(num_samples)
    micro = GLOBAL_BATCH // steps
    seen_by = np.zeros(replicas)
    for _ in range(EPOCHS):
        starts = list(range(0, num_samples, micro))
        for at in range(0, len(starts), steps):
            shares = [[] for _ in everyone]
            for begin in starts[at : at + steps]:
                rows = np.arange(begin, min(begin + micro, num_samples))
                size = -(-len(rows) // replicas)
                for i, share in enumerate(shares):
                    share.extend(rows[i * size : (i + 1) * size])
            gradients = [
                replica.gradient_of(x[share], y[share])
                for replica, share in zip(everyone, shares, strict=True)
            ]
            counts = np.array([len(share) for share in shares])
            if updates < start:
                mean = [
                    np.average(
                        [np.array(g) for g in of_all], axis=0, weights=counts
                    ).astype("float32")
                    for of_all in zip(*gradients, strict=True)
                ]
                gradients = [[tf.constant(g) for g in mean]] * replicas
            for replica, gradient in zip(everyone, gradients, strict=True):
                replica.update(gradient)
                replica.seen += counts[everyone.index(replica)]
            seen_by = np.array([r.seen for r in everyone])
            updates += 1
            if updates <= start:
                meet(ends_early=True)
                continue
            in_round += 1
            if in_round == sync_every:
                meet(ends_early=False)
                in_round = 0
        if in_round:
            meet(ends_early=False)
            in_round = 0
    for replica in everyone:
        replica.optimizer.finalize_variable_values(replica.variables)
    return [[v.numpy() for v in r.variables] for r in everyone]


def one_late(make_optimizer, num_samples):
    """On one device: each gradient is applied after the next was taken."""
    model = make_model()
    variables = model.trainable_variables
    optimizer = make_optimizer()
    optimizer.build(variables)
    x, y = arrays(num_samples)

    @tf.function(reduce_retracing=True)
    def gradient(x, y):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(model(x, training=True) - y))
            loss += tf.add_n(model.losses)
        return tape.gradient(loss, variables)

    for _ in range(EPOCHS):
        waiting = None
        for at in range(0, num_samples, GLOBAL_BATCH):
            rows = slice(at, at + GLOBAL_BATCH)
            newest = gradient(tf.constant(x[rows]), tf.constant(y[rows]))
            if waiting is not None:
                optimizer.apply(waiting, variables)
            waiting = newest
        optimizer.apply(waiting, variables)
    optimizer.finalize_variable_values(variables)
    return [v.numpy() for v in variables], int(optimizer.iterations.numpy())
