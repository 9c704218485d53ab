"""Steps that find no data, where a dataset does not say how long it is."""

import keras
import numpy as np
import problem
import pytest
import tensorflow as tf

import tfdp
from tfdp.step import Settings, StepMeter

pytestmark = pytest.mark.filterwarnings("ignore:Your input ran out of data")

SAMPLES = 48
BATCH = 6
UPDATES = {1: 8, 2: 4}  # In an epoch, by micro-batches to an update.


def of_unknown_length(batch=BATCH):
    return problem.dataset(SAMPLES, batch).filter(lambda *_: True)


def of_static_shape():
    data = tf.data.Dataset.from_tensor_slices(problem.arrays(SAMPLES))
    return problem.untuned(
        data.batch(BATCH, drop_remainder=True).filter(lambda *_: True)
    )


def of_generator():
    x, y = problem.arrays(SAMPLES)

    def generate():
        for i in range(0, SAMPLES, BATCH):
            yield x[i : i + BATCH], y[i : i + BATCH]

    specs = tf.TensorSpec((None, 8)), tf.TensorSpec((None, 1))
    return problem.untuned(
        tf.data.Dataset.from_generator(generate, output_signature=specs)
    )


def schedule():
    return keras.optimizers.schedules.ExponentialDecay(0.05, 5, 0.5)


OPTIMIZERS = {
    "schedule": lambda: keras.optimizers.SGD(schedule(), momentum=0.9),
    "adam": lambda: keras.optimizers.Adam(0.01),
    "average": lambda: keras.optimizers.SGD(
        0.05, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=3
    ),
}


def fitted(model, data, **arguments):
    return model.fit(data, epochs=3, verbose=0, **arguments).history


@pytest.mark.sampled
@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("steps", [1, 2])
def test_an_epoch_of_unknown_length_equals_one_of_known(strategy, name, steps):
    expected = problem.make_model()
    expected.compile(OPTIMIZERS[name](), "mse", metrics=["mae"])
    oracle = fitted(expected, problem.dataset(SAMPLES, BATCH * steps))
    with strategy.scope():
        model = problem.make_model()
        optimizer = tfdp.DistributedOptimizer(
            OPTIMIZERS[name](), accumulation_steps=steps
        )
        model.compile(optimizer, "mse", metrics=["mae"])
    history = fitted(
        model,
        of_unknown_length(),
        callbacks=[tfdp.callbacks.DataParallel()],
    )
    assert optimizer.iterations.numpy() == 3 * UPDATES[steps]
    assert optimizer.micro_step.numpy() == 0
    assert sum(optimizer.samples_by_replica()) == 3 * SAMPLES
    actual, weights = model.get_weights(), expected.get_weights()
    assert problem.deviation(actual, weights) <= 1e-5
    np.testing.assert_allclose(history["mae"], oracle["mae"], rtol=1e-4)


@pytest.mark.sampled
@pytest.mark.parametrize("make_data", [of_static_shape, of_generator])
@pytest.mark.parametrize("steps", [1, 3])
def test_any_source_and_several_steps_per_execution_equal_one_device(
    strategy, make_data, steps
):
    expected = problem.make_model()
    expected.compile(OPTIMIZERS["schedule"](), "mse", metrics=["mae"])
    known = problem.dataset(SAMPLES, BATCH)
    oracle = fitted(expected, known, validation_data=known)
    with strategy.scope():
        model = problem.make_model()
        optimizer = tfdp.DistributedOptimizer(OPTIMIZERS["schedule"]())
        model.compile(
            optimizer, "mse", metrics=["mae"], steps_per_execution=steps
        )
    data = make_data()
    history = fitted(model, data, validation_data=data)
    actual, weights = model.get_weights(), expected.get_weights()
    assert problem.deviation(actual, weights) <= 1e-6
    for name, values in oracle.items():
        np.testing.assert_allclose(history[name], values, rtol=1e-5)


class Counting(keras.Sequential):
    """Counts its steps, and draws a number in each."""

    def __init__(self, layers):
        super().__init__(layers)
        self.seeds = keras.random.SeedGenerator(1)
        self.steps = self.add_weight(
            shape=(), initializer="zeros", trainable=False
        )

    def train_step(self, data):
        self.steps.assign_add(1.0)
        keras.random.normal((), seed=self.seeds)
        return super().train_step(data)

    def test_step(self, data):
        self.steps.assign_add(1.0)
        return super().test_step(data)


@pytest.mark.sampled
@pytest.mark.parametrize("wraps", [True, False])
def test_no_state_moves_in_a_step_without_data(strategy, wraps):
    """That of layers, steps and optimizers that are not tfdp's, too."""
    with strategy.scope():
        optimizer = keras.optimizers.Adam(0.01)
        model = Counting([keras.Input((8,)), keras.layers.Dense(1)])
        if wraps:
            optimizer = tfdp.DistributedOptimizer(
                optimizer, loss_scale="dynamic", dynamic_growth_steps=100
            )
        model.compile(optimizer, "mse")
    before = model.seeds.state.numpy()
    data = of_unknown_length()
    fitted(model, data)
    batches = 3 * UPDATES[1]
    assert optimizer.iterations.numpy() == batches
    assert model.steps.numpy() == batches
    # The first number of a state counts; building draws once more.
    drawn = model.seeds.state.numpy() - before
    assert drawn.max() == batches
    if wraps:
        assert optimizer.step_counter.numpy() == batches
    model.evaluate(data, verbose=0)
    assert model.steps.numpy() == batches + UPDATES[1]


def test_a_meter_writes_no_step_without_data(two_replicas):
    with two_replicas.scope():
        model = problem.make_model()
        optimizer = tfdp.DistributedOptimizer(OPTIMIZERS["adam"]())
        model.compile(optimizer, "mse")
    meter = optimizer.measure_time(StepMeter(Settings()))
    meter.start(two_replicas)
    fitted(model, of_unknown_length())
    for rows in meter.read():
        assert len(rows) == 3 * UPDATES[1]
        assert rows[:, 3].sum() == 3 * SAMPLES / 2
