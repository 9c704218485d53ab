"""Trains on items that are split in many ways, and counts what was computed.

python split_items.py REPLICAS WAY ...

trains in those ways, or in all of them.
"""

import math
import random
import sys
import warnings

import keras
import numpy as np
import tensorflow as tf

import tfdp
from tfdp.cluster.membership import Membership, join

if len(sys.argv) > 1:
    cpus = [tf.config.LogicalDeviceConfiguration()] * int(sys.argv[1])
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, cpus)
strategy = tfdp.auto_strategy()
WORKERS, MICRO_BATCH, EPOCHS = strategy.num_workers, 12, 3
x = np.random.default_rng(0).normal(size=(70, 4)).astype("float32")
y = x.sum(1, keepdims=True)
computed = []
in_fit = []


class Items(keras.utils.PyDataset):
    """Items of a worker's share: of a whole micro-batch on one worker."""

    def __init__(self, samples=70, **options):
        super().__init__(**options)
        self.samples = samples
        self.size = MICRO_BATCH // WORKERS
        self.begun = 0

    def __len__(self):
        return math.ceil(self.samples / self.size)

    def __getitem__(self, index):
        rows = self.rows(index)
        computed.append(index)
        return x[rows], y[rows]

    def rows(self, index):
        return np.arange(self.samples)[index * self.size :][: self.size]

    def on_epoch_begin(self):
        self.begun += 1


class Reordered(Items):
    """Shuffles micro-batches, as one device would."""

    def __init__(self):
        super().__init__(72 - 12)
        self.rng = np.random.default_rng(3)
        self.order = np.arange(5)

    def rows(self, index):
        step, own = divmod(index, WORKERS)
        return super().rows(self.order[step] * WORKERS + own)

    def on_epoch_end(self):
        self.rng.shuffle(self.order)


class OnItsOwn(Reordered):
    """Shuffles otherwise on each worker."""

    def __init__(self):
        super().__init__()
        self.rng = np.random.default_rng(strategy.worker_index)


class Grows(Items):
    """Is longer on some workers than on others."""

    def __len__(self):
        return super().__len__() + strategy.worker_index


class Other(Items):
    """Has other types on some workers."""

    def __getitem__(self, index):
        x, y = super().__getitem__(index)
        return x, y.astype("float64" if strategy.worker_index else "float32")


class Endless(Items):
    """Begins anew; without end."""

    __len__ = None
    num_batches = None

    def rows(self, index):
        places = np.arange(index * self.size, (index + 1) * self.size)
        return places % self.samples


class Named(Items):
    """Dictionaries, of a sequence whose length differs between items."""

    def __getitem__(self, index):
        features, targets = super().__getitem__(index)
        length = 1 + index % 2
        row = np.repeat(features[:, None], length, 1)
        return {"row": row, "other": features}, targets, np.ones(len(targets))


def compiled(model):
    optimizer = keras.optimizers.SGD(0.02, momentum=0.9)
    model.compile(tfdp.DistributedOptimizer(optimizer), "mse")
    return model


def dense():
    return compiled(
        keras.Sequential(
            [
                keras.Input((4,)),
                keras.layers.Dense(3, "tanh"),
                keras.layers.Dense(1),
            ]
        )
    )


def of_names():
    row = keras.Input((None, 4), name="row")
    other = keras.Input((4,), name="other")
    pooled = keras.layers.GlobalAveragePooling1D()(row)
    hidden = keras.layers.Dense(3, "tanh")(pooled + other)
    return compiled(
        keras.Model({"row": row, "other": other}, keras.layers.Dense(1)(hidden))
    )


def trained(items, make=dense, **fit):
    keras.utils.set_random_seed(1)
    random.seed(strategy.worker_index)
    with strategy.scope():
        model = make()
    data = tfdp.shard(items)
    computed.clear()
    history = model.fit(
        data,
        epochs=EPOCHS,
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel()],
        **{"shuffle": False} | fit,
    )
    in_fit[:] = computed
    return {
        "weights": np.concatenate([w.ravel() for w in model.get_weights()]),
        "loss": history.history["loss"],
        "val_loss": history.history.get("val_loss", []),
        "evaluated": model.evaluate(
            data, verbose=0, steps=fit.get("steps_per_epoch")
        ),
        "updates": int(model.optimizer.iterations.numpy()),
    }


def begins():
    items = Items()
    trained(items)
    return {"begun": items.begun}


WAYS = {
    "plain": lambda: trained(Items()),
    "as many for all": lambda: trained(Items(72 - 12)),
    "one sample": lambda: trained(Items(1)),
    "one item more": lambda: trained(Items(25)),
    "threads": lambda: trained(Items(workers=2, max_queue_size=2)),
    "a process": lambda: trained(Items(workers=1, use_multiprocessing=True)),
    "reordered": lambda: trained(Reordered()),
    "without end": lambda: trained(Endless(), steps_per_epoch=4),
    "validated": lambda: trained(
        Items(), validation_data=tfdp.shard(Items(31))
    ),
    "class weights": lambda: trained(Signs(), class_weight={0: 0.5, 1: 2.0}),
    "dictionaries": lambda: trained(Named(), of_names),
    "begins": begins,
}


class Signs(Items):
    """Targets of two classes."""

    def __getitem__(self, index):
        features, targets = super().__getitem__(index)
        return features, (targets > 0).astype("float32")


def shuffled():
    """Which rows of one epoch met in a step, by worker, in their order."""
    steps = []

    class Witness(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(1)

        def call(self, x):
            return self.dense(x)

        def train_step(self, data):
            tf.py_function(
                lambda y: steps.append(y.numpy().ravel().tolist()),
                [data[1]],
                [],
            )
            return super().train_step(data)

    class Numbered(Items):
        def __getitem__(self, index):
            rows = self.rows(index).astype("float32")[:, None]
            return rows, rows

    with strategy.scope():
        model = compiled(Witness())
    model.fit(
        tfdp.shard(Numbered(72)),
        epochs=2,
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel()],
    )
    return steps


def of_others():
    own = Membership(strategy.worker_index, WORKERS)
    join(Membership(0, WORKERS + 1))
    items = tfdp.shard(Items())
    join(own)
    return items


def told():
    """How often one that is not split is told of, in three calls."""
    with strategy.scope():
        model = dense()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.predict(Items(), verbose=0)
        model.fit(Items(24), verbose=0)
        model.evaluate(Items(24), verbose=0)
    return {"of shard": sum("tfdp.shard" in str(w.message) for w in caught)}


def refusal(act):
    try:
        act()
    except ValueError as error:
        return str(error)
    return None


if __name__ == "__main__":
    found = {}
    for name in sys.argv[2:] or WAYS:
        trained_so = WAYS[name]().items()
        found[name] = {k: np.asarray(v).tolist() for k, v in trained_so}
        if name == "plain":
            found["computed"] = list(in_fit)
    found["shuffled"] = shuffled()
    found["told"] = told()
    with strategy.scope():
        model = dense()
    found["refused"] = {
        "on its own": refusal(lambda: trained(OnItsOwn())),
        "length": refusal(lambda: trained(Grows())),
        "types": refusal(lambda: trained(Other())),
        "predict": refusal(lambda: model.predict(tfdp.shard(Items()))),
        "others": refusal(lambda: model.fit(of_others(), verbose=0)),
        "twice": refusal(lambda: tfdp.shard(tfdp.shard(Items()))),
    }
    tfdp.testing.report(found)
