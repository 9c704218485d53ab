"""Trains a model whose gradients are large enough for gloo, way by way."""

import os
import signal

import keras
import numpy as np
import tensorflow as tf

import tfdp

WIDTH = 9000
BATCH = 32
EPOCHS = 2


def outer():
    return keras.optimizers.SGD(0.7, momentum=0.9, nesterov=True)


SETTINGS = {
    "each batch": {},
    "every third": {"accumulation_steps": 3},
    "local": {"synchronization": lambda: tfdp.LocalSGD(3)},
    "DiLoCo": {"synchronization": lambda: tfdp.DiLoCo(outer(), 3)},
    "delayed": {"synchronization": tfdp.Delayed},
    "shared": {"synchronization": tfdp.ShardedState},
    "float16": {"compression": "float16"},
    "eagerly": {},
    # What leaves is a single message.
    "eagerly, one weight": {"synchronization": lambda: tfdp.LocalSGD(3)},
}


def arrays(samples=115):
    random = np.random.default_rng(3)
    x = random.normal(size=(samples, 64)).astype("float32")
    return x, x[:, :2]


def make_model(name=""):
    keras.utils.set_random_seed(4)
    if "one weight" in name:
        return keras.Sequential(
            [
                keras.Input((64,)),
                keras.layers.Dense(WIDTH, use_bias=False),
                keras.layers.Reshape((WIDTH // 2, 2)),
                keras.layers.GlobalAveragePooling1D(),
            ]
        )
    return keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(WIDTH, "tanh"),
            keras.layers.Dense(2),
        ]
    )


def sgd():
    return keras.optimizers.SGD(0.05, momentum=0.9)


def data(batch):
    return tf.data.Dataset.from_tensor_slices(arrays()).batch(batch)


def trained(names):
    """Returns, by setting, what became of the weights, and what gloo took."""
    strategy = tfdp.MultiWorkerMirroredStrategy()
    courier = strategy.carrier and strategy.carrier.courier
    found = {}
    for name in names:
        options = dict(SETTINGS[name])
        if "synchronization" in options:
            options["synchronization"] = options["synchronization"]()
        before = courier.taken if courier else 0
        with strategy.scope():
            model = make_model(name)
            model.compile(
                tfdp.DistributedOptimizer(sgd(), **options),
                "mse",
                run_eagerly=name.startswith("eagerly"),
            )
        steps = options.get("accumulation_steps", 1)
        model.fit(
            data(BATCH // steps),
            epochs=EPOCHS,
            verbose=0,
            callbacks=[tfdp.callbacks.DataParallel()],
        )
        weights = np.concatenate([w.ravel() for w in model.get_weights()])
        found[name] = {
            "weights": weights.astype("float64").tobytes().hex(),
            "taken": courier.taken - before if courier else 0,
        }
    if courier:
        found["places"] = courier.memory.num_places
    return found


def summed_by_two_steps():
    """Sums in two conditional branches, of which a worker is late to one."""
    strategy = tfdp.MultiWorkerMirroredStrategy()
    from tfdp.synchronization.reduction import all_reduced

    large = 600_000

    @tf.function
    def step(number):
        def on_replica():
            def both():
                ones = tf.fill([large], tf.cast(number, tf.float32))
                first = all_reduced([ones])[0]
                second = all_reduced([2 * ones, tf.constant(1.0)])
                return first[0], second[0][0], second[1]

            return tf.cond(number > 0, both, lambda: (0.0, 0.0, 0.0))

        return strategy.run(on_replica)

    return [[float(x) for x in step(tf.constant(n))] for n in (0, 1, 2)]


def told(communication, hidden=-1, unreachable=False):
    """Makes a strategy; returns what was said, or what came of it."""
    import warnings

    from tfdp.transport import Courier
    from tfdp.upstream import gloo

    worker = tfdp.Cluster.from_environment().index
    if worker == hidden:
        gloo.is_there = lambda: False
    if unreachable:

        def connect(self, addresses):
            raise ConnectionError(f"no way from worker {worker}")

        Courier.connect = connect
    if isinstance(communication, list):
        communication = communication[worker]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            strategy = tfdp.MultiWorkerMirroredStrategy(
                communication=communication
            )
        except RuntimeError as error:
            return str(error)
    said = [str(each.message) for each in caught if "gloo" in str(each.message)]
    return [strategy.carrier is not None, said]


def lost_on_the_way(fault):
    """Loses worker 1 when its gradients leave; returns what the other hears."""
    from tfdp.transport import Courier

    strategy = tfdp.MultiWorkerMirroredStrategy(heartbeat_timeout=2)
    if strategy.worker_index == 1:
        take = Courier.take

        def fails(self, values):
            if self.taken == 4:
                os.kill(os.getpid(), getattr(signal, fault))
            return take(self, values)

        Courier.take = fails
    with strategy.scope():
        model = make_model()
        model.compile(tfdp.DistributedOptimizer(sgd()), "mse")
    try:
        model.fit(
            data(BATCH),
            epochs=EPOCHS,
            verbose=0,
            callbacks=[tfdp.callbacks.DataParallel()],
        )
    except tf.errors.OpError as error:
        print(f"HEARD {error.__notes__}", flush=True)
        os._exit(7)
