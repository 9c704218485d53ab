"""Trains on datasets of Grain's that are split between workers."""

import sys

import grain
import keras
import numpy as np
import tensorflow as tf

import tfdp

cpus = [tf.config.LogicalDeviceConfiguration()] * int(sys.argv[1])
(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, cpus)
strategy = tfdp.auto_strategy()
WORKERS, MICRO_BATCH, EPOCHS = strategy.num_workers, 12, 2
x = np.random.default_rng(0).normal(size=(70, 4)).astype("float32")
read = []


def sample(index):
    read.append(int(index))
    return x[index], x[index].sum(keepdims=True)


def numbers(count, seed=3):
    return grain.MapDataset.range(count).shuffle(seed=seed)


def split(count=70, seed=3, **batch):
    own = tfdp.shard(numbers(count, seed)).map(sample)
    return own.batch(MICRO_BATCH // WORKERS, **batch)


def loader(options):
    """Of one step: which samples would meet in several is not the same."""
    sampler = grain.samplers.IndexSampler(
        12, options, shuffle=False, num_epochs=1
    )
    return grain.DataLoader(
        data_source=grain.sources.RangeDataSource(0, 12, 1),
        sampler=sampler,
        operations=[Sampled(), grain.transforms.Batch(12 // WORKERS)],
        shard_options=options,
    )


class Sampled(grain.transforms.Map):
    """Makes a sample of its number."""

    def map(self, index):
        return sample(index)


def model_of():
    keras.utils.set_random_seed(1)
    with strategy.scope():
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        optimizer = keras.optimizers.SGD(0.02, momentum=0.9)
        model.compile(tfdp.DistributedOptimizer(optimizer), "mse")
    return model


def trained(data, **fit):
    model = model_of()
    read.clear()
    history = model.fit(
        data,
        epochs=EPOCHS,
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel()],
        **fit,
    )
    return {
        "weights": np.concatenate([w.ravel() for w in model.get_weights()]),
        "loss": history.history["loss"],
        "updates": int(model.optimizer.iterations.numpy()),
    }


def endless():
    own = tfdp.shard(numbers(70).repeat()).map(sample)
    return own.batch(MICRO_BATCH // WORKERS, drop_remainder=True)


WAYS = {
    "map dataset": lambda: trained(split()),
    "one more for some": lambda: trained(split(25)),
    "dropped alike": lambda: trained(split(42, drop_remainder=True)),
    "iter dataset": lambda: trained(split().to_iter_dataset()),
    "without end": lambda: trained(endless(), steps_per_epoch=4),
    "loader": lambda: trained(loader(tfdp.shard_options())),
}


def refusal(act):
    try:
        act()
    except ValueError as error:
        return str(error)
    return None


if __name__ == "__main__":
    found = {}
    for name, train in WAYS.items():
        found[name] = {k: np.asarray(v).tolist() for k, v in train().items()}
        if name == "map dataset":
            found["read"] = sorted(set(read))
    others = grain.sharding.ShardOptions(0, WORKERS + 1)
    model = model_of()
    found["refused"] = {
        "seed": refusal(lambda: model.fit(split(seed=strategy.worker_index))),
        "drops": refusal(lambda: model.fit(split(61, drop_remainder=True))),
        "others": refusal(lambda: model.fit(loader(others))),
        "predict": refusal(lambda: model.predict(split())),
        "twice": refusal(lambda: tfdp.shard(split())),
        "few": refusal(lambda: tfdp.shard(numbers(1))),
    }
    tfdp.testing.report(found)
