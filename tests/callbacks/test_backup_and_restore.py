"""A run that is interrupted and resumed equals one that is not."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfdp

SAMPLES = 90
BATCH = 16


class Killed(Exception):
    """Stands for the end of the process."""


class KillAt(keras.callbacks.Callback):
    def __init__(self, epoch, batch):
        super().__init__()
        self.place = epoch, batch

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == self.place:
            raise Killed


class Seen(keras.callbacks.Callback):
    """Losses of every step, as a trace of the data and weights."""

    def __init__(self):
        super().__init__()
        self.losses = []

    def on_train_batch_end(self, batch, logs=None):
        self.losses.append(logs["loss"])


def dataset(seed=7, samples=SAMPLES, batch=BATCH):
    random = np.random.default_rng(0)
    x = random.normal(size=(samples, 8)).astype("float32")
    y = random.normal(size=(samples, 1)).astype("float32")
    data = tf.data.Dataset.from_tensor_slices((x, y))
    return data.shuffle(samples, seed=seed).batch(batch)


def make_model(replicas=2, *, optimizer=None, steps=2, **compile_options):
    strategy = tfdp.MirroredStrategy([f"CPU:{i}" for i in range(replicas)])
    with strategy.scope():
        keras.utils.set_random_seed(3)
        model = keras.Sequential(
            [
                keras.Input((8,)),
                keras.layers.Dense(16, "relu"),
                keras.layers.BatchNormalization(),
                keras.layers.Dropout(0.25),
                keras.layers.Dense(1),
            ]
        )
        model.compile(
            tfdp.DistributedOptimizer(
                optimizer or keras.optimizers.Adam(0.01),
                accumulation_steps=steps,
            ),
            "mse",
            metrics=["mae"],
            **compile_options,
        )
    return model


def fit(model, folder, *more, data=None, epochs=4, **options):
    save = {"save_freq": 1, **options.pop("save", {})}
    backup = tfdp.callbacks.BackupAndRestore(folder, **save)
    return model.fit(
        dataset() if data is None else data,
        epochs=epochs,
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel(), backup, *more],
        **options,
    )


def state(model):
    variables = [*model.variables, *model.optimizer.variables]
    return {f"{i} {v.path}": v.numpy() for i, v in enumerate(variables)}


def assert_same(model, other):
    for (name, value), expected in zip(
        state(model).items(), state(other).values(), strict=True
    ):
        np.testing.assert_array_equal(value, expected, err_msg=name)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run that nothing interrupts."""
    model = make_model()
    history = fit(model, tmp_path_factory.mktemp("whole"))
    return model, history


@pytest.mark.parametrize(
    "place", [(0, 1), (0, 5), (1, 0), (1, 3), (2, 5), (3, 4)], ids=str
)
def test_resumed_in_an_epoch_it_is_the_same_run(whole, tmp_path, place):
    with pytest.raises(Killed):
        fit(make_model(), tmp_path, KillAt(*place))
    model = make_model()
    history = fit(model, tmp_path)
    assert_same(model, whole[0])
    assert history.epoch == whole[1].epoch
    for key, values in whole[1].history.items():
        np.testing.assert_array_equal(history.history[key], values)


@pytest.mark.parametrize("epoch", [1, 3])
def test_by_epochs_it_resumes_at_the_epoch(whole, tmp_path, epoch):
    save = {"save_freq": "epoch"}
    with pytest.raises(Killed):
        fit(make_model(), tmp_path, KillAt(epoch, 2), save=save)
    model = make_model()
    fit(model, tmp_path, save=save)
    assert_same(model, whole[0])
