"""Reports what two workers agree on at the edges of a fit."""

import contextlib
import os
import platform
import signal
import time
import warnings
from importlib import metadata
from unittest import mock

import keras
import numpy as np
import problem
import tensorflow as tf

import tfdp
from tfdp.agreement.gathering import broadcast, check_same, gather_objects

strategy = tfdp.auto_strategy()
HERE = strategy.worker_index
BATCH = 16
ARRAYS = {
    "float32": np.array([[np.nan, -0.0, np.inf], [1e-45, -np.inf, 0.1]], "f4"),
    "float64": np.array([np.nan, -0.0, 1 / 3]),
    "bfloat16": tf.constant([0.1, -0.0], tf.bfloat16).numpy(),
    "bfloat16 as float32": np.float32(tf.constant([0.1, 3e38], tf.bfloat16)),
    "float16": np.array([0.1, 65504, 6e-8], "f2"),
    "int64": np.array([2**63 - 1, -(2**63), -1]),
    "uint8": np.arange(7, dtype="u1"),
    "bool": np.array([True, False, True]),
    "scalar": np.array(-0.0, "f4"),
    "empty": np.zeros((0, 3), "f4"),
    "strided": np.arange(12.0).reshape(3, 4)[:, ::2],
}


VERSIONS = [
    (tf, "__version__", "2.99.0"),
    (keras, "__version__", "3.99.0"),
    (platform, "python_version", lambda: "3.99.0"),
    (metadata, "version", lambda _: "0.99.0"),
]


class AtBatch(keras.callbacks.Callback):
    """Does something on worker 1 alone, in its third micro-batch."""

    def __init__(self, do):
        super().__init__()
        self.do = do
        self.seen = 0

    def on_train_batch_end(self, batch, logs=None):
        self.seen += 1
        if HERE == 1 and self.seen == 3:
            self.do(self.model)


def described(array):
    return [array.dtype.name, list(array.shape), array.tobytes().hex()]


def made(rate=0.05, momentum=0.0, name="head", steps=1):
    with strategy.scope():
        keras.utils.set_random_seed(1)
        model = keras.Sequential(
            [keras.Input((8,)), keras.layers.Dense(1, name=name)]
        )
        optimizer = tfdp.DistributedOptimizer(
            keras.optimizers.SGD(rate, momentum), accumulation_steps=steps
        )
        model.compile(optimizer, "mse")
    return model


def fit(model, *callbacks, x=None, **arguments):
    """Fits; returns how it ended, and the warnings."""
    data = problem.dataset(8 * BATCH, BATCH) if x is None else x
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            model.fit(
                data,
                verbose=0,
                callbacks=[tfdp.callbacks.DataParallel(), *callbacks],
                **arguments,
            )
            end = ""
        except BaseException as error:
            end = f"{type(error).__name__}: {error}"
    return {"end": end, "warnings": [str(w.message) for w in caught]}


def another(versions):
    """Fits where worker 1 says that it has other versions."""
    with contextlib.ExitStack() as stack:
        for module, name, version in versions if HERE else ():
            patch = mock.patch.object(module, name, version)
            stack.enter_context(patch)
        return fit(made())


def endless():
    """Fits with data whose number of batches does not tell their size."""
    data = problem.dataset(8 * BATCH, BATCH // (1 + HERE)).repeat()
    return fit(made(), x=data, steps_per_epoch=2)


def checked():
    items = {
        "same": 3,
        "epochs": 1 + HERE,
        **({"only here": 1} if HERE else {}),
    }
    try:
        check_same(strategy, items)
    except RuntimeError as error:
        return str(error)
    return None


def weights():
    model = made(rate=0.0)
    chiefs = [w.tolist() for w in model.get_weights()]
    if HERE == 1:
        model.set_weights([w + 1 for w in model.get_weights()])
    ended = fit(model)
    return {
        **ended,
        "chiefs": chiefs,
        "after": [w.tolist() for w in model.get_weights()],
    }


def shards(is_sharded):
    def own(context):
        data = tf.data.Dataset.from_tensor_slices(problem.arrays(64))
        if is_sharded:
            data = data.shard(
                context.num_input_pipelines, context.input_pipeline_id
            )
        return problem.untuned(data.batch(BATCH // 2))

    data = strategy.distribute_datasets_from_function(own)
    return fit(made(), x=data)


def other_elements():
    def own(context):
        x, y = problem.arrays(64)
        y = y.astype("int32") if HERE else y
        data = tf.data.Dataset.from_tensor_slices((x, y))
        own = data.shard(context.num_input_pipelines, HERE)
        return problem.untuned(own.batch(BATCH // 2))

    return fit(made(), x=strategy.distribute_datasets_from_function(own))


def shards_warn(is_sharded):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        shards(is_sharded)
    return [str(w.message) for w in caught]


def permuted():
    x, y = problem.arrays(64)
    if HERE == 1:
        order = np.random.default_rng(0).permutation(64)
        x, y = x[order], y[order]
    return fit(made(), x=x, y=y, batch_size=BATCH)


def stopped(steps):
    def stop(model):
        model.stop_training = True

    model, watch = made(steps=steps), AtBatch(stop)
    ended = fit(model, watch, epochs=2)
    updates = int(model.optimizer.iterations.numpy())
    return {**ended, "updates": updates, "batches": watch.seen}


def interrupted(steps):
    before = signal.getsignal(signal.SIGINT)
    model = made(steps=steps)
    watch = AtBatch(lambda _: os.kill(os.getpid(), signal.SIGINT))
    ended = fit(model, watch, epochs=2)
    return {
        **ended,
        "updates": int(model.optimizer.iterations.numpy()),
        "batches": watch.seen,
        "is given back": signal.getsignal(signal.SIGINT) == before,
    }


def second_strategy():
    """Another one in this process, which the chief makes later."""
    if HERE == 0:
        time.sleep(0.3)
    return tfdp.auto_strategy().num_workers


tfdp.testing.report(
    {
        "gathered": gather_objects(
            strategy, {"worker": HERE, "text": "é" * (1 + 9 * HERE)}
        ),
        "given": {name: described(a) for name, a in ARRAYS.items()},
        "broadcast": {
            name: described(broadcast(strategy, np.ones_like(a) if HERE else a))
            for name, a in ARRAYS.items()
        },
        "checked": checked(),
        "epochs": fit(made(), epochs=1 + HERE),
        "momentum": fit(made(momentum=0.9 if HERE else 0.5)),
        "layers": fit(made(name="other" if HERE else "head")),
        "batch": endless(),
        "versions": another(VERSIONS),
        "elements": other_elements(),
        "weights": weights(),
        "sharded": shards_warn(is_sharded=True),
        "not sharded": shards_warn(is_sharded=False),
        "permuted": permuted(),
        "stopped": [stopped(steps) for steps in (1, 2)],
        "interrupted": [interrupted(steps) for steps in (1, 2)],
        "second strategy": second_strategy(),
    }
)
