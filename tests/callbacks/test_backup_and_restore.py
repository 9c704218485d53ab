"""A run that is interrupted and resumed equals one that is not."""

import signal

import keras
import numpy as np
import pytest
import tensorflow as tf
from grids import later
from killed import KillAt, Killed

import tfdp
from tfdp.backup.courses import replay
from tfdp.backup.differences import differences

# Callbacks of these tests count, and have no `get_state`.
pytestmark = pytest.mark.filterwarnings("ignore:What callbacks remember")

SAMPLES = 90
BATCH = 16


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
    "place", later([(0, 1), (1, 0), (2, 5), (3, 4)], [(2, 5)]), ids=str
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


def test_it_tells_of_reading_again_that_takes_long(
    tmp_path, monkeypatch, capsys
):
    with pytest.raises(Killed):
        fit(make_model(), tmp_path, KillAt(0, 3))
    monkeypatch.setattr(replay, "_LONG_SECONDS", -1)
    fit(make_model(), tmp_path, epochs=1)
    # Killed in the fourth, after the update of the first two.
    assert "Read 2 batches again in 0 s" in capsys.readouterr().out


@pytest.mark.long
def test_interrupted_again_it_is_the_same_run(whole, tmp_path):
    for place in [(0, 3), (0, 5), (1, 3)]:
        with pytest.raises(Killed):
            fit(make_model(), tmp_path, KillAt(*place))
    model = make_model()
    fit(model, tmp_path)
    assert_same(model, whole[0])


@pytest.mark.sampled
@pytest.mark.parametrize("epoch", [1, 3])
def test_by_epochs_it_resumes_at_the_epoch(whole, tmp_path, epoch):
    save = {"save_freq": "epoch"}
    with pytest.raises(Killed):
        fit(make_model(), tmp_path, KillAt(epoch, 2), save=save)
    model = make_model()
    fit(model, tmp_path, save=save)
    assert_same(model, whole[0])


class DieInValidation(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_test_begin(self, logs=None):
        if self.epoch == 1:
            raise Killed


def halved(epoch, rate):
    return rate * 0.5


@pytest.mark.long
def test_what_callbacks_do_at_epochs_is_done_once(tmp_path):
    """Killed in a validation, after the last update of the epoch."""
    options = {"validation_data": dataset()}

    def fresh():
        return [
            keras.callbacks.LearningRateScheduler(halved),
            keras.callbacks.SwapEMAWeights(swap_on_epoch=True),
        ]

    def averaged():
        model = plain_model(2, 2, use_ema=True)
        with model.distribute_strategy.scope():
            # A vector, which a history holds too.
            metric = keras.metrics.F1Score(average=None, threshold=0.5)
            model.compile(model.optimizer, "mse", metrics=[metric])
        return model

    whole = averaged()
    history = fit(whole, tmp_path / "whole", *fresh(), **options)
    for where in [KillAt(1, 4), DieInValidation(), KillAt(2, 0)]:
        with pytest.raises(Killed):
            fit(averaged(), tmp_path, *fresh(), where, **options)
    resumed = averaged()
    again = fit(resumed, tmp_path, *fresh(), **options)
    assert_same(resumed, whole)
    for key, values in history.history.items():
        # Validation is in another order, which rounds otherwise.
        np.testing.assert_allclose(again.history[key], values, rtol=1e-5)


@pytest.mark.long
def test_after_a_resumed_fit_the_next_begins_anew(tmp_path):
    with pytest.raises(Killed):
        fit(make_model(), tmp_path, KillAt(3, 0))
    model = make_model()
    fit(model, tmp_path)
    history = model.fit(
        dataset(),
        epochs=2,
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel()],
    )
    assert history.epoch == [0, 1]


@pytest.mark.long
def test_a_signal_in_the_last_validation_lets_it_end(tmp_path):
    class InValidation(keras.callbacks.Callback):
        def on_test_begin(self, logs=None):
            signal.raise_signal(signal.SIGTERM)

    more = {"validation_data": dataset(), "epochs": 1}
    history = fit(make_model(), tmp_path, InValidation(), **more)
    assert history.epoch == [0]


class Rows(keras.utils.PyDataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return np.ones((8, 8), "float32"), np.ones((8, 1), "float32")


@pytest.mark.long
def test_python_code_that_shuffles_is_told(tmp_path):
    with pytest.warns(UserWarning, match="or Python code that yields the"):
        fit(make_model(), tmp_path, data=Rows(), epochs=1)


def test_a_run_that_was_longer_is_told_and_kept(tmp_path):
    with pytest.raises(Killed):
        fit(make_model(), tmp_path, KillAt(3, 2))
    with pytest.warns(UserWarning, match="must be epochs left to train"):
        history = fit(make_model(), tmp_path, epochs=2)
    assert len(history.history["loss"]) == 3
    assert list(tmp_path.glob("backup-*.npz"))


def test_data_of_another_length_are_told(tmp_path):
    with pytest.raises(Killed):
        fit(make_model(), tmp_path, KillAt(0, 3))
    with pytest.warns(UserWarning, match="1 updates per epoch, instead of 3"):
        fit(make_model(), tmp_path, data=dataset(samples=20), epochs=1)


def test_an_optimizer_that_is_not_built_is_refused(tmp_path):
    model = make_model()
    with model.distribute_strategy.scope():
        model.second = tfdp.DistributedOptimizer(keras.optimizers.SGD())
    with pytest.raises(RuntimeError, match="must be built before training"):
        fit(model, tmp_path)


def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="must be a folder that can be"):
        fit(make_model(), tmp_path / "file")
    with pytest.raises(ValueError, match="must name a folder"):
        tfdp.callbacks.BackupAndRestore("")


@pytest.mark.long
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


@pytest.mark.long
def test_it_resumes_in_data_without_end(tmp_path):
    options = {"steps_per_epoch": 5}
    model = make_model()
    fit(model, tmp_path / "whole", data=infinite(), **options)
    for place in [(0, 4), (1, 0), (1, 4)]:
        again = {"data": infinite(), **options}
        with pytest.raises(Killed):
            fit(make_model(), tmp_path, KillAt(*place), **again)
    resumed = make_model()
    fit(resumed, tmp_path, data=infinite(), **options)
    assert_same(resumed, model)


@pytest.mark.long
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


def plain_model(replicas, steps, **options):
    strategy = tfdp.MirroredStrategy([f"CPU:{i}" for i in range(replicas)])
    with strategy.scope():
        keras.utils.set_random_seed(3)
        model = keras.Sequential(
            [keras.Input((8,)), keras.layers.Dense(16), keras.layers.Dense(1)]
        )
        model.compile(
            tfdp.DistributedOptimizer(
                keras.optimizers.SGD(0.05, momentum=0.9, **options),
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


def test_it_says_what_random_layers_draw_after_a_resume(tmp_path):
    backup = {"replicas": 2, "updates_per_epoch": 3, "epoch": 1}

    def said(about, random_by):
        return " ".join(
            differences(
                {**backup, **about},
                is_in_order=True,
                replicas=4,
                random_by=random_by,
                updates_per_epoch=3,
                is_over=False,
                epochs=4,
                folder=tmp_path,
            )
        )

    other = "Received: random_by='{}', with a backup made with random_by='{}'."
    before = said({}, "replica")
    assert "dropout draws other masks" in before
    assert "Received: random_by" not in before
    sampled = said({"random_by": "sample"}, "sample")
    assert "dropout draws the same masks" in sampled
    assert "Received: random_by" not in sampled
    assert other.format("sample", "replica") in said({}, "sample")
    now = said({"random_by": "sample"}, "replica")
    assert other.format("replica", "sample") in now


class Signal(keras.callbacks.Callback):
    def __init__(self, number, epoch=1, batch=2):
        super().__init__()
        self.number, self.place = number, (epoch, batch)

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if (self.epoch, batch) == self.place:
            signal.raise_signal(self.number)


@pytest.mark.sampled
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


@pytest.mark.parametrize("every_seconds", [None, 25])
def test_backups_are_made_by_the_clock_too(tmp_path, every_seconds):
    seconds = iter(range(0, 10_000, 10))
    save = {
        "save_freq": "epoch",
        "every_seconds": every_seconds,
        "keep": 9,
        "clock": lambda: next(seconds),
        "delete_checkpoint": False,
    }
    fit(make_model(steps=1), tmp_path, save=save, epochs=1)
    count = len(list(tmp_path.glob("backup-*.npz")))
    # Of the end of the epoch, and of some updates before.
    assert count == 1 if every_seconds is None else 1 < count < 6


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
    with pytest.warns(UserWarning, match="a shuffling without a seed"):
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
