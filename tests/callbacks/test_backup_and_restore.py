"""A run that is interrupted and resumed equals one that is not."""

import signal

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


@pytest.mark.parametrize("place", [(0, 1), (1, 0), (2, 5), (3, 4)], ids=str)
def test_resumed_in_an_epoch_it_is_the_same_run(whole, tmp_path, place):
    with pytest.raises(Killed):
        fit(make_model(), tmp_path, KillAt(*place))
    model = make_model()
    history = fit(model, tmp_path)
    assert_same(model, whole[0])
    assert history.epoch == whole[1].epoch
    for key, values in whole[1].history.items():
        np.testing.assert_array_equal(history.history[key], values)


@pytest.mark.parametrize("epochs_end", [True, False])
def test_interrupted_again_it_is_the_same_run(whole, tmp_path, epochs_end):
    data = {} if epochs_end else {"data": infinite(), "steps_per_epoch": 5}
    expected = whole[0]
    if not epochs_end:
        expected = make_model()
        fit(expected, tmp_path / "whole", **data)
    for place in [(0, 3), (0, 4), (1, 2), (1, 3)]:
        with pytest.raises(Killed):
            fit(make_model(), tmp_path, KillAt(*place), **data)
    model = make_model()
    fit(model, tmp_path, **data)
    assert_same(model, expected)


@pytest.mark.parametrize("epoch", [1, 3])
def test_by_epochs_it_resumes_at_the_epoch(whole, tmp_path, epoch):
    save = {"save_freq": "epoch"}
    with pytest.raises(Killed):
        fit(make_model(), tmp_path, KillAt(epoch, 2), save=save)
    model = make_model()
    fit(model, tmp_path, save=save)
    assert_same(model, whole[0])


def test_a_fit_that_is_aborted_while_skipping_leaves_nothing(tmp_path):
    with pytest.raises(Killed):
        fit(make_model(), tmp_path, KillAt(0, 5))
    model = make_model()
    with pytest.raises(Killed):
        fit(model, tmp_path, KillAt(0, 0))
    seen = Seen()
    before = model.optimizer.iterations.numpy()
    model.fit(
        dataset(),
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel(), seen],
    )
    assert len(set(seen.losses)) == 6
    assert model.optimizer.iterations.numpy() == before + 3


def infinite(**_):
    return dataset().repeat()


@pytest.mark.parametrize("place", [(1, 0), (2, 3)], ids=str)
def test_it_resumes_in_data_without_end(tmp_path, place):
    options = {"steps_per_epoch": 5}
    model = make_model()
    fit(model, tmp_path / "whole", data=infinite(), **options)
    with pytest.raises(Killed):
        fit(
            make_model(),
            tmp_path,
            KillAt(*place),
            data=infinite(),
            **options,
        )
    resumed = make_model()
    fit(resumed, tmp_path, data=infinite(), **options)
    assert_same(resumed, model)


def test_it_resumes_in_arrays_with_validation_and_loss_scaling(tmp_path):
    random = np.random.default_rng(0)
    x = random.normal(size=(70, 8)).astype("float32")
    y = 1e4 * random.normal(size=(70, 1)).astype("float32")
    trace = {}
    for name, places in [("whole", []), ("parts", [(0, 2), (2, 3)])]:
        keras.config.set_dtype_policy("mixed_float16")
        for place in [*places, (9, 9)]:
            model, seen = make_model(), Seen()
            backup = tfdp.callbacks.BackupAndRestore(tmp_path / name, 1)
            callbacks = [tfdp.callbacks.DataParallel(), backup, seen]
            try:
                model.fit(
                    x,
                    y,
                    batch_size=BATCH,
                    validation_data=(x, y),
                    epochs=3,
                    verbose=0,
                    callbacks=[*callbacks, KillAt(*place)],
                )
            except Killed:
                continue
        trace[name] = model
    assert int(trace["whole"].optimizer.skipped_updates.numpy()) > 0
    assert_same(trace["parts"], trace["whole"])


def plain_model(replicas, steps):
    strategy = tfdp.MirroredStrategy([f"CPU:{i}" for i in range(replicas)])
    with strategy.scope():
        keras.utils.set_random_seed(3)
        model = keras.Sequential(
            [keras.Input((8,)), keras.layers.Dense(16), keras.layers.Dense(1)]
        )
        model.compile(
            tfdp.DistributedOptimizer(
                keras.optimizers.SGD(0.05, momentum=0.9),
                accumulation_steps=steps,
            ),
            "mse",
        )
    return model


def test_it_resumes_on_other_replicas_with_a_note(tmp_path):
    """The global batch is 32 samples throughout."""
    whole = plain_model(1, 1)
    fit(whole, tmp_path / "whole", data=dataset(batch=32))
    with pytest.raises(Killed):
        fit(plain_model(2, 2), tmp_path, KillAt(1, 3), data=dataset(batch=16))
    resumed = plain_model(4, 4)
    with pytest.warns(UserWarning, match="on 4 replicas a backup made on 2"):
        history = fit(resumed, tmp_path, data=dataset(batch=8))
    assert len(history.history["loss"]) == 4
    for a, b in zip(resumed.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert sum(resumed.optimizer.samples_by_replica()) == 4 * SAMPLES


class Signal(keras.callbacks.Callback):
    def __init__(self, number, epoch=1, batch=2):
        super().__init__()
        self.number, self.place = number, (epoch, batch)

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if (self.epoch, batch) == self.place:
            signal.raise_signal(self.number)


@pytest.mark.parametrize(
    ("number", "error"),
    [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)],
    ids=["SIGTERM", "Ctrl-C"],
)
def test_a_signal_makes_a_backup_at_the_end_of_the_update(
    whole, tmp_path, number, error
):
    save = {"save_freq": "epoch"}
    handler = signal.getsignal(number)
    model = make_model()
    with pytest.raises(error) as raised:
        fit(model, tmp_path, Signal(number), save=save)
    if error is SystemExit:
        assert raised.value.code == 143
    assert signal.getsignal(number) is handler
    # Of the batches 2 and 3, which make one update, both were trained on.
    assert model.optimizer.iterations.numpy() == 3 + 2
    resumed = make_model()
    fit(resumed, tmp_path, save=save)
    assert_same(resumed, whole[0])


def test_backups_are_made_by_the_clock_too(tmp_path):
    seconds = iter(range(0, 10_000, 10))
    kept = []

    class Look(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            kept.append(len(list(tmp_path.glob("backup-*.npz"))))

    save = {
        "save_freq": "epoch",
        "every_seconds": 25,
        "keep": 9,
        "clock": lambda: next(seconds),
    }
    fit(make_model(steps=1), tmp_path, Look(), save=save, epochs=1)
    assert kept[0] == 0
    assert 1 <= kept[-1] <= 3


def test_backups_are_deleted_at_the_end_unless_wanted(tmp_path):
    fit(make_model(), tmp_path / "deleted", epochs=1)
    assert not (tmp_path / "deleted").exists()
    save = {"delete_checkpoint": False, "keep": 3}
    model = make_model()
    fit(model, tmp_path / "kept", epochs=1, save=save)
    assert len(list((tmp_path / "kept").glob("backup-*.npz"))) == 3
    seen = Seen()
    again = make_model()
    fit(again, tmp_path / "kept", seen, epochs=1, save=save)
    assert seen.losses == []
    assert_same(again, model)


def test_an_order_that_cannot_be_drawn_again_is_told(tmp_path):
    tf.random.set_seed(None)
    with pytest.warns(UserWarning, match="shuffled by a seed"):
        fit(make_model(), tmp_path, data=unseeded(), epochs=1)


def unseeded():
    keras.utils.set_random_seed(0)
    tf.random.set_seed(None)
    return dataset(seed=None)


def test_another_order_is_told(tmp_path):
    with pytest.raises(Killed):
        fit(make_model(), tmp_path, KillAt(1, 2))
    with pytest.warns(UserWarning, match="shuffled by another seed"):
        fit(make_model(), tmp_path, data=dataset(seed=8))


def test_a_backup_of_another_model_is_refused(tmp_path):
    with pytest.raises(Killed):
        fit(make_model(), tmp_path, KillAt(1, 2))
    with pytest.raises(ValueError, match="of the model and optimizer"):
        fit(plain_model(2, 2), tmp_path)


def test_without_data_parallel_it_is_refused(tmp_path):
    backup = tfdp.callbacks.BackupAndRestore(tmp_path)
    with pytest.raises(RuntimeError, match="needs `callbacks.DataParallel`"):
        make_model().fit(dataset(), verbose=0, callbacks=[backup])


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"save_freq": 0}, ValueError),
        ({"save_freq": "batch"}, TypeError),
        ({"keep": 0}, ValueError),
        ({"every_seconds": 0}, ValueError),
    ],
    ids=str,
)
def test_bad_arguments_are_refused(tmp_path, options, error):
    with pytest.raises(error, match=next(iter(options))):
        tfdp.callbacks.BackupAndRestore(tmp_path, **options)
