"""Equal to one device, whatever the replicas: `BatchPlan` keeps the batch."""

import keras
import numpy as np
import problem
import pytest

import tfdp

# A last batch of 37, whose last micro-batch is uneven for every number.
NUM_SAMPLES = 2 * problem.GLOBAL_BATCH + 37
LIMIT = 13
EXPECTED = {1: (8, [8]), 2: (4, [8, 8]), 3: (2, [11, 11, 10]), 4: (2, [8] * 4)}

pytestmark = pytest.mark.filterwarnings("ignore:What a layer keeps of a batch")


class Counting(keras.layers.Layer):
    """Keeps the most samples that its replica was given in a step."""

    def build(self, shape):
        self.most = self.add_weight(shape=(), trainable=False, dtype="int32")

    def call(self, x, training=False):
        if training:
            rows = keras.ops.shape(x)[0]
            self.most.assign(keras.ops.maximum(self.most, rows))
        return x


def train(strategy, make_optimizer):
    """Trains by a program that nothing but the strategy tells the replicas."""
    plan = tfdp.BatchPlan(
        global_batch=problem.GLOBAL_BATCH,
        max_per_replica_batch=LIMIT,
        num_replicas=strategy.num_replicas_in_sync,
    )
    with strategy.scope():
        model = keras.Sequential([Counting(), problem.make_model()])
        optimizer = tfdp.DistributedOptimizer(
            make_optimizer(), plan.accumulation_steps
        )
        model.compile(optimizer, "mse")
    model.fit(
        problem.dataset(NUM_SAMPLES, plan.micro_batch),
        epochs=problem.EPOCHS,
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel()],
    )
    updates = int(optimizer.iterations.numpy())
    assert updates == problem.EPOCHS * plan.updates_per_epoch(NUM_SAMPLES)
    most = strategy.experimental_local_results(model.layers[0].most.value)
    return plan, model.layers[1].get_weights(), [int(m) for m in most]


def oracle(optimizer):
    model, _ = problem.train_on_one_device(
        problem.OPTIMIZERS[optimizer], NUM_SAMPLES
    )
    return model.get_weights()


@pytest.mark.parametrize("replicas", EXPECTED)
@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
def test_the_numbers_of_one_device_for_any_number_of_replicas(
    replicas, optimizer
):
    strategy = tfdp.MirroredStrategy([f"CPU:{i}" for i in range(replicas)])
    plan, weights, most = train(strategy, problem.OPTIMIZERS[optimizer])
    assert (plan.accumulation_steps, most) == EXPECTED[replicas]
    assert max(most) == plan.per_replica_batch <= LIMIT
    assert problem.deviation(weights, oracle(optimizer)) <= 1e-6


def on_a_worker():
    strategy = tfdp.auto_strategy()
    plan, weights, most = train(strategy, problem.OPTIMIZERS["adam"])
    return str(plan), [w.tolist() for w in weights], most


@pytest.mark.multi_worker
def test_three_workers_keep_the_batch_of_one_device():
    reports = tfdp.testing.run_workers(on_a_worker, 3)
    expected = oracle("adam")
    for plan, weights, _ in reports:
        assert plan == (
            "global batch 64 = micro-batch 32 over 3 replicas "
            "(up to 11 each) x 2 accumulation steps"
        )
        weights = [np.array(w, "float32") for w in weights]
        assert problem.deviation(weights, expected) <= 1e-6
    assert [most for _, _, (most,) in reports] == [11, 11, 10]
