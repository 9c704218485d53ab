"""Batch normalisation where the number of replicas changes on the way."""

import keras
import problem
import pytest
from killed import KillAt, Killed

import tfdp

# A last batch of 5, of which not all replicas have as many.
SAMPLES, BATCH, EPOCHS = 53, 16, 3
# Replicas, and where they end.
COURSE = [(3, (0, 2)), (1, (1, 1)), (2, (9, 9))]


def make_model(synchronized):
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((8,)),
            keras.layers.Dense(8),
            keras.layers.BatchNormalization(
                momentum=0.8, synchronized=synchronized
            ),
            keras.layers.Dense(1),
        ]
    )


def sgd():
    return keras.optimizers.SGD(0.05, momentum=0.9)


@pytest.fixture(scope="module")
def of_one_device():
    model = make_model(synchronized=False)
    model.compile(sgd(), "mse")
    model.fit(problem.dataset(SAMPLES, BATCH), epochs=EPOCHS, verbose=0)
    return model.get_weights()


def trained(folder, replicas, place, *, synchronized, steps=1):
    strategy = tfdp.MirroredStrategy([f"CPU:{i}" for i in range(replicas)])
    with strategy.scope():
        model = make_model(synchronized)
        model.compile(tfdp.DistributedOptimizer(sgd(), steps), "mse")
    try:
        model.fit(
            problem.dataset(SAMPLES, BATCH // steps),
            epochs=EPOCHS,
            verbose=0,
            callbacks=[
                tfdp.callbacks.DataParallel(),
                tfdp.callbacks.BackupAndRestore(folder, save_freq=1),
                KillAt(*place),
            ],
        )
    except Killed:
        return None
    return model.get_weights()


@pytest.mark.filterwarnings("ignore:Resuming on")
def test_synchronized_it_is_that_of_one_device(tmp_path, of_one_device):
    for replicas, place in COURSE:
        weights = trained(tmp_path, replicas, place, synchronized=True)
    assert problem.deviation(weights, of_one_device) <= 1e-6


@pytest.mark.parametrize(
    ("synchronized", "steps"),
    [(False, 1), (True, 2)],
    ids=["of each replica", "of other micro-batches"],
)
def test_otherwise_it_is_another(tmp_path, of_one_device, synchronized, steps):
    weights = trained(
        tmp_path, 2, (9, 9), synchronized=synchronized, steps=steps
    )
    assert problem.deviation(weights, of_one_device) > 1e-3
