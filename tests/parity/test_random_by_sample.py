"""Random layers by sample: the same numbers for any number of replicas.

The oracle is one replica with one large batch and the same option; that its
masks are as good as any is for tests/step/test_sample_numbers.py to say.
"""

import keras
import numpy as np
import problem
import pytest
import tensorflow as tf
from grids import later
from killed import KillAt, Killed

import tfdp

GLOBAL_BATCH = 48
# A last batch of 37, whose last micro-batch is uneven.
NUM_SAMPLES = 2 * GLOBAL_BATCH + 37
LAYERS = {
    "dropout": lambda: keras.layers.Dropout(0.5),
    "noise": lambda: keras.layers.GaussianNoise(0.5),
    "gaussian-dropout": lambda: keras.layers.GaussianDropout(0.5),
    "alpha-dropout": lambda: keras.layers.AlphaDropout(0.2),
    "spatial-dropout": lambda: keras.layers.SpatialDropout1D(0.5),
    "attention": lambda: keras.layers.MultiHeadAttention(2, 2, dropout=0.5),
    "gru": lambda: keras.layers.GRU(
        8, dropout=0.5, recurrent_dropout=0.3, return_sequences=True
    ),
    "random-flip": lambda: keras.layers.RandomFlip(),
}
SPLITS = [(1, 12), (2, 24), (2, 8), (3, 6), (4, 3)]


class Model(keras.Model):
    """Calls a random layer twice, and another once."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer()
        self.noise = keras.layers.GaussianNoise(0.1)
        self.dense = keras.layers.Dense(1)

    def randomly(self, x, training):
        if isinstance(self.layer, keras.layers.MultiHeadAttention):
            return self.layer(x, x, training=training)
        if isinstance(self.layer, keras.layers.RandomFlip):
            images = keras.ops.expand_dims(x, -1)
            return self.layer(images, training=training)[..., 0]
        return self.layer(x, training=training)

    def call(self, x, training=False):
        x = self.randomly(self.randomly(x, training), training)
        x = keras.layers.Flatten()(self.noise(x, training=training))
        return self.dense(x)


def arrays():
    x, y = problem.arrays(NUM_SAMPLES)
    return np.stack([x, x[::-1]], axis=1), y


def dataset(micro_batch, mark=lambda data: data):
    data = tf.data.Dataset.from_tensor_slices(arrays()).shuffle(100, seed=5)
    return problem.untuned(data.apply(mark).batch(micro_batch))


def made(strategy, limit, layer, mark=lambda data: data):
    plan = tfdp.BatchPlan(
        global_batch=GLOBAL_BATCH,
        max_per_replica_batch=limit,
        num_replicas=strategy.num_replicas_in_sync,
    )
    keras.utils.set_random_seed(3)
    with strategy.scope():
        model = Model(LAYERS[layer])
        model.compile(
            tfdp.DistributedOptimizer(
                keras.optimizers.SGD(0.02, momentum=0.9),
                plan.accumulation_steps,
            ),
            "mse",
        )
    return model, dataset(plan.micro_batch, mark), plan


def fit(model, *data, callbacks=(), **options):
    model.fit(
        *data,
        epochs=problem.EPOCHS,
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel(), *callbacks],
        **options,
    )
    return model.get_weights()


def by_sample(replicas):
    devices = [f"CPU:{i}" for i in range(replicas)]
    return tfdp.MirroredStrategy(devices, random_by="sample")


def on_replicas(replicas, limit, layer):
    model, data, _ = made(by_sample(replicas), limit, layer)
    return fit(model, data)


@pytest.fixture(scope="module")
def oracle():
    found = {}

    def of(layer):
        if layer not in found:
            found[layer] = on_replicas(1, GLOBAL_BATCH, layer)
        return found[layer]

    return of


@pytest.mark.sampled
@pytest.mark.parametrize(
    "layer", later(LAYERS, ["dropout", "attention", "gru", "random-flip"])
)
@pytest.mark.parametrize(("replicas", "limit"), SPLITS)
def test_the_numbers_of_one_replica_for_any_number(
    oracle, layer, replicas, limit
):
    weights = on_replicas(replicas, limit, layer)
    assert problem.deviation(weights, oracle(layer)) <= 1e-6


def test_by_replica_they_are_others(oracle):
    strategy = tfdp.MirroredStrategy(["CPU:0", "CPU:1"])
    model, data, _ = made(strategy, 24, "dropout")
    assert problem.deviation(fit(model, data), oracle("dropout")) > 1e-3


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:Resuming on")
def test_resumed_on_other_replicas_it_is_the_same_run(oracle, tmp_path):
    def part(replicas, limit, *callbacks):
        model, data, _ = made(by_sample(replicas), limit, "dropout")
        backup = tfdp.callbacks.BackupAndRestore(tmp_path, save_freq=1)
        return fit(model, data, callbacks=[backup, *callbacks])

    with pytest.raises(Killed):
        part(4, 6, KillAt(0, 3))
    with pytest.raises(Killed):
        part(3, 8, KillAt(1, 4))
    with pytest.raises(Killed):
        part(1, 48, KillAt(2, 1))
    weights = part(2, 6)
    assert problem.deviation(weights, oracle("dropout")) <= 1e-6


def on_a_worker(layer, limit):
    strategy = tfdp.auto_strategy(random_by="sample")
    found = {}
    for name, mark in [("whole", lambda data: data), ("marked", tfdp.shard)]:
        model, data, plan = made(strategy, limit, layer, mark)
        found[name] = fit(model, data, validation_data=dataset(10))
    model, _, plan = made(strategy, limit, layer)
    found["arrays"] = fit(
        model, *arrays(), batch_size=plan.micro_batch, shuffle=False
    )
    return {k: [w.tolist() for w in v] for k, v in found.items()}


def refused_on_a_worker():
    strategy = tfdp.auto_strategy(random_by="sample")
    model, *_ = made(strategy, GLOBAL_BATCH, "dropout")
    x = np.zeros([35, 2, 8], "float32")

    def marked(data):
        return data.apply(tfdp.shard).map(lambda x: (x, x[0, :1])).batch(5)

    def error_of(call, data):
        try:
            call(marked(data))
        except ValueError as error:
            return str(error)
        return "none"

    rows = tf.data.Dataset.from_tensor_slices(x)
    return [
        # Of 19 the last micro-batch has 4, and begins with worker 1.
        error_of(model.fit, rows.take(19)),
        error_of(model.fit, rows.filter(lambda x: True)),
        error_of(strategy.experimental_distribute_dataset, rows),
        error_of(model.fit, rows.take(18)),
        error_of(lambda d: model.fit(d, steps_per_epoch=3), rows.repeat()),
    ]


@pytest.mark.multi_worker
def test_shares_whose_turns_are_not_known_are_refused():
    for found in tfdp.testing.run_workers(refused_on_a_worker, 2):
        for each in found[:2]:
            assert "Received: micro-batches of 5 on 2 workers" in each
            assert "or leave out `tfdp.shard`" in each
        assert "Received: some for a loop of your own" in found[2]
        assert found[3:] == ["none", "none"]


@pytest.mark.long
@pytest.mark.multi_worker
# Micro-batches of 48, 16, which 3 do not divide, and 12.
@pytest.mark.parametrize(("workers", "limit"), [(3, 6), (2, 24), (2, 6)])
def test_workers_draw_the_numbers_of_one_replica(oracle, workers, limit):
    reports = tfdp.testing.run_workers(
        on_a_worker, workers, ["dropout", limit], timeout=300
    )
    model, _, _ = made(by_sample(1), GLOBAL_BATCH, "dropout")
    in_order = fit(model, *arrays(), batch_size=GLOBAL_BATCH, shuffle=False)
    for report in reports:
        for name, weights in report.items():
            expected = in_order if name == "arrays" else oracle("dropout")
            weights = [np.array(w, "float32") for w in weights]
            assert problem.deviation(weights, expected) <= 1e-6, name
