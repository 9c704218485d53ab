"""Data without a batch are told as such, wherever they are given."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfdp

# Of a `PyDataset` without batches Keras says so itself.
RULE = "must have at least one batch. Received: a dataset with none"
RULE += "|PyDataset has length 0"


def rows(count):
    return np.ones((count, 3), "float32"), np.ones((count, 1), "float32")


def dataset(count):
    return tf.data.Dataset.from_tensor_slices(rows(count)).batch(4)


class Batches(keras.utils.PyDataset):
    def __init__(self, count):
        super().__init__()
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, place):
        return rows(4)


EMPTY = {
    "arrays": lambda: dict(zip("xy", rows(0), strict=True)),
    "dataset": lambda: {"x": dataset(0)},
    "filtered": lambda: {"x": dataset(8).filter(lambda *_: False)},
    "taken": lambda: {"x": dataset(8).take(0)},
    "dropped": lambda: {
        "x": dataset(3).unbatch().batch(4, drop_remainder=True)
    },
    "batches": lambda: {"x": Batches(0)},
}
every_kind = pytest.mark.parametrize("kind", EMPTY)


@pytest.fixture(params=[True, False], ids=["built", "late"])
def model(two_replicas, request):
    return make(two_replicas, request.param)


def make(strategy, is_built):
    with strategy.scope():
        inputs = [keras.layers.Input((3,))] if is_built else []
        model = keras.Sequential([*inputs, keras.layers.Dense(1)])
        inner = keras.optimizers.SGD(0.1)
        model.compile(tfdp.DistributedOptimizer(inner), "mse")
    return model


@every_kind
def test_there_is_nothing_to_fit(model, kind):
    with pytest.raises(ValueError, match=RULE):
        model.fit(**EMPTY[kind](), verbose=0)


@every_kind
def test_there_is_nothing_to_evaluate(model, kind):
    with pytest.raises(ValueError, match=RULE):
        model.evaluate(**EMPTY[kind](), verbose=0)


@every_kind
def test_there_is_nothing_to_predict(model, kind):
    with pytest.raises(ValueError, match=RULE):
        model.predict(EMPTY[kind]()["x"], verbose=0)


@every_kind
def test_there_is_nothing_to_validate_on(model, kind):
    data = EMPTY[kind]()
    data = tuple(data.values()) if len(data) > 1 else data["x"]
    with pytest.raises(ValueError, match=RULE):
        model.fit(*rows(8), validation_data=data, batch_size=4, verbose=0)


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_a_distributed_dataset_without_batches_is_told(two_replicas):
    data = two_replicas.distribute_datasets_from_function(
        lambda _: dataset(8).filter(lambda *_: False)
    )
    with pytest.raises(ValueError, match=RULE):
        make(two_replicas, True).fit(
            data, verbose=0, callbacks=[tfdp.callbacks.DataParallel()]
        )


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_data_that_end_later_are_left_to_keras(two_replicas):
    model = make(two_replicas, True)
    callbacks = [tfdp.callbacks.DataParallel()]
    batches = (rows(4) for _ in range(3))
    history = model.fit(
        batches, epochs=2, steps_per_epoch=2, verbose=0, callbacks=callbacks
    )
    assert len(history.history["loss"]) >= 1
    assert int(model.optimizer.iterations.numpy()) == 3
    found = model.predict(Batches(2), verbose=0)
    assert found.shape == (8, 1)
