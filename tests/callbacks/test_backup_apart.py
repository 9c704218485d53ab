"""Backups of workers that do not wait for each other, by the chief alone."""

import asynchronous_fit
import keras
import numpy as np
import pytest
import tensorflow as tf
from grids import later
from killed import KillAt, Killed

import tfdp

pytestmark = [
    # Callbacks of these tests count, and have no `get_state`.
    pytest.mark.filterwarnings("ignore:What callbacks remember"),
]

CPUS = ["CPU:0"]
SERVERS = []


@pytest.fixture(autouse=True)
def _servers_end():
    yield
    while SERVERS:
        SERVERS.pop().close()


def alone():
    """A worker, with a server of its own: the last one may have been killed."""
    strategy = tfdp.AsynchronousStrategy(0, devices=CPUS)
    SERVERS.append(strategy._server)
    return strategy


def make_model(strategy, optimizer="AdamW", accumulation=1):
    with strategy.scope():
        model = asynchronous_fit.make_model()
        model.add(keras.layers.BatchNormalization())
        model.compile(
            tfdp.DistributedOptimizer(
                asynchronous_fit.OPTIMIZERS[optimizer](),
                accumulation_steps=accumulation,
            ),
            "mse",
            metrics=["mae"],
        )
    return model


def fit(folder, *more, strategy=None, epochs=3, model=None, **save):
    """Trains; returns the model, and the history."""
    strategy = strategy or alone()
    model = model or make_model(strategy)
    backup = tfdp.callbacks.BackupAndRestore(folder, **save)
    history = model.fit(
        *asynchronous_fit.samples(),
        batch_size=8,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel(), *more, backup],
    )
    return model, history


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run that nothing interrupts."""
    return fit(tmp_path_factory.mktemp("whole"), *others())


def others():
    return [
        keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.5),
        keras.callbacks.EarlyStopping("loss", patience=5),
    ]


def assert_same(one, other):
    for a, b in zip(one.variables, other.variables, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=a.path)
    for a, b in zip(
        one.optimizer.inner_optimizer.variables,
        other.optimizer.inner_optimizer.variables,
        strict=True,
    ):
        np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=a.path)


@pytest.mark.long
@pytest.mark.sampled
@pytest.mark.parametrize("place", later([(1, 0), (2, 3)], [(2, 3)]), ids=str)
@pytest.mark.parametrize("save_freq", later(["epoch", 1], [1]))
def test_resumed_it_is_the_same_run(whole, tmp_path, place, save_freq):
    save = {"save_freq": save_freq}
    with pytest.raises(Killed):
        fit(tmp_path, *others(), KillAt(*place), **save)
    model, history = fit(tmp_path, *others(), **save)
    assert_same(model, whole[0])
    assert history.epoch == whole[1].epoch
    assert history.history == whole[1].history
    assert not list(tmp_path.glob("*.npz"))


@pytest.mark.long
def test_it_counts_updates_and_a_finished_run_is_not_trained_again(tmp_path):
    names = []

    class Names(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            names.extend(p.name for p in tmp_path.glob("*.npz"))

    fit(
        tmp_path,
        Names(),
        epochs=1,
        save_freq=2,
        keep=9,
        delete_checkpoint=False,
    )
    assert sorted(names) == [f"backup-{n:010d}.npz" for n in (2, 4, 6)]
    strategy = alone()
    model, history = fit(tmp_path, strategy=strategy, epochs=1)
    assert int(model.optimizer.iterations.numpy()) == 6
    assert strategy.exchange.log() == []
    assert history.epoch == [0]


@pytest.mark.long
def test_another_seed_is_told(tmp_path):
    with pytest.raises(Killed):
        fit(tmp_path, KillAt(0, 2), epochs=1, save_freq=1)
    strategy = alone()
    model = make_model(strategy)
    tf.random.set_seed(5)
    with pytest.warns(UserWarning, match="shuffled by another seed"):
        fit(tmp_path, strategy=strategy, model=model, epochs=1)


@pytest.mark.long
def test_a_backup_of_the_other_kind_is_refused(tmp_path):
    keep = {"delete_checkpoint": False, "epochs": 1}
    fit(tmp_path / "apart", **keep)
    together = tfdp.MirroredStrategy(CPUS)
    with pytest.raises(ValueError, match="must be of the model and optimizer"):
        fit(tmp_path / "apart", strategy=together)
    fit(tmp_path / "together", strategy=together, **keep)
    with pytest.raises(ValueError, match="must be of the model and optimizer"):
        fit(tmp_path / "together")


@pytest.mark.long
def test_a_backup_of_another_optimizer_is_refused(tmp_path):
    fit(tmp_path, epochs=1, delete_checkpoint=False)
    strategy = alone()
    with pytest.raises(ValueError, match="must be of the model and optimizer"):
        fit(tmp_path, strategy=strategy, model=make_model(strategy, "SGD"))
