"""A dataset that shuffles has the order of one device in later fits too.

The oracle is plain Keras, which draws an order whenever it begins the dataset.
"""

import contextlib

import keras
import numpy as np
import problem
import pytest
import tensorflow as tf
from grids import later

import tfdp


class Losses(keras.callbacks.Callback):
    """Of every batch; of a model that never changes they tell its samples."""

    def __init__(self):
        super().__init__()
        self.found = []

    def on_train_batch_end(self, batch, logs=None):
        self.found.append(logs["loss"])

    on_test_batch_end = on_train_batch_end


class Program:
    def __init__(self, strategy):
        scope = strategy.scope() if strategy else contextlib.nullcontext()
        keras.utils.set_random_seed(0)
        with scope:
            self.model = keras.Sequential(
                [keras.Input((1,)), keras.layers.Dense(1)]
            )
            optimizer = keras.optimizers.SGD(0.0)
            if strategy:
                optimizer = tfdp.DistributedOptimizer(optimizer)
            self.model.compile(optimizer, "mse")
        self.losses = Losses()
        self.callbacks = [self.losses]
        if strategy:
            self.callbacks.insert(0, tfdp.callbacks.DataParallel())

    def fit(self, data, **options):
        options = {"epochs": 2, "verbose": 0, **options}
        self.model.fit(data, callbacks=self.callbacks, **options)

    def evaluate(self, data, **options):
        self.model.evaluate(
            data, callbacks=self.callbacks, verbose=0, **options
        )

    def predict(self, data, **options):
        self.model.predict(data, verbose=0, **options)


def samples(count=32):
    y = np.square(np.arange(count, dtype="float32"))[:, None]
    return tf.data.Dataset.from_tensor_slices((np.zeros_like(y), y))


def shuffled(**shuffle):
    return problem.untuned(samples().shuffle(32, **shuffle).batch(8))


def fit_twice(program):
    data = shuffled(seed=2)
    program.fit(data)
    program.fit(data)


def fit_twice_without_a_seed(program):
    data = shuffled()
    program.fit(data)
    program.fit(data)


def evaluate_and_predict_between(program):
    data = shuffled(seed=2)
    program.fit(data, epochs=1)
    program.evaluate(data)
    program.predict(data)
    program.fit(data)


def validate_with_the_same(program):
    data = shuffled(seed=2)
    program.fit(data, validation_data=data)
    program.fit(data, validation_data=data.take(2))


def map_it_for_each_fit(program):
    data = shuffled(seed=2)
    for _ in range(3):
        program.fit(data.map(lambda x, y: (x, y)), epochs=1)


def count_steps(program):
    data = shuffled(seed=2)
    program.fit(data, steps_per_epoch=4, validation_data=data)
    program.fit(data, steps_per_epoch=2, epochs=4)
    program.fit(data)


def go_on_where_the_length_is_not_known(program):
    data = shuffled(seed=2).filter(lambda x, y: True)
    program.fit(data, epochs=3)
    program.fit(data)


def losses(run, strategy):
    program = Program(strategy)
    run(program)
    return program.losses.found


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
@pytest.mark.parametrize(
    "run",
    later(
        [
            fit_twice,
            fit_twice_without_a_seed,
            evaluate_and_predict_between,
            validate_with_the_same,
            map_it_for_each_fit,
            count_steps,
            go_on_where_the_length_is_not_known,
        ],
        [fit_twice, evaluate_and_predict_between, validate_with_the_same],
    ),
    ids=lambda run: run.__name__,
)
def test_the_order_is_that_of_one_device(run, two_replicas):
    alone, here = (losses(run, each) for each in (None, two_replicas))
    np.testing.assert_allclose(here, alone, rtol=1e-4)
    # Or it would not matter.
    halves = np.array_split(alone, 2)
    assert not np.allclose(*(half[:2] for half in halves), rtol=1e-4)
