"""What a run leaves in its folder."""

import dataclasses
import json
import math
import pathlib
import sys
import time
import types

import keras
import numpy as np
import problem
import pytest
import tensorflow as tf
from killed import KillAt, Killed
from places import SHARED

import tfdp
from tfdp.report import logged_goodput
from tfdp.upstream.keras import inspection

SCRIPT = SHARED / "run_logger.py"
BATCH = 16


class Clock:
    """A second later at each look."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        self.now += 1
        return self.now


@dataclasses.dataclass
class Window:
    update: int

    def rows(self):
        return [
            {"update": self.update, "worker": worker, "seconds": math.nan}
            for worker in range(2)
        ]

    def scalars(self):
        return {"throughput/samples_per_sec": 100.0 + self.update}


class Throughput(keras.callbacks.Callback):
    """Stands in for a monitor whose windows are two updates long."""

    unit = "tokens"

    def on_train_begin(self, logs=None):
        self._listeners = []

    def listen(self, listener):
        self._listeners.append(listener)

    def on_train_batch_end(self, batch, logs=None):
        update = int(self.model.optimizer.iterations.numpy())
        if update % 2 == 0 and not self.model.optimizer.is_mid_cycle:
            for listener in self._listeners:
                listener(Window(update))

    def limit(self):
        class Limit(types.SimpleNamespace):
            __str__ = lambda self: "the input is slow"  # noqa: E731

        return Limit(kind="input")


def make_model(strategy, *, steps=2, **options):
    with strategy.scope():
        model = problem.make_model()
        model.compile(
            tfdp.DistributedOptimizer(
                keras.optimizers.SGD(tfdp.WarmupSchedule(0.1, 8)),
                accumulation_steps=steps,
                loss_scale=options.pop("loss_scale", None),
            ),
            "mse",
            metrics=["mae"],
            **options,
        )
    return model


def fit(model, *callbacks, batches=6, epochs=2, data=None, **options):
    return model.fit(
        problem.dataset(batches * BATCH, BATCH) if data is None else data,
        epochs=epochs,
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel(), *callbacks],
        **options,
    ).history


def monitors():
    return [
        tfdp.callbacks.LearningRateMonitor(),
        tfdp.callbacks.LossScaleMonitor(),
    ]


def logger(folder, **options):
    return tfdp.callbacks.RunLogger(folder, clock=Clock(), **options)


def read(folder, *kinds):
    lines = (folder / "run.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    if kinds:
        return [row for row in rows if row["kind"] in kinds]
    # Those that tell where the time went are a matter of their own.
    return [row for row in rows if row["kind"] not in ("start", "spent")]


def events(folder):
    """Scalars by tag, and there by step."""
    found = {}
    for path in sorted(folder.glob("events.out.tfevents.*")):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                assert value.metadata.plugin_data.plugin_name == "scalars"
                steps = found.setdefault(value.tag, {})
                assert event.step not in steps
                steps[event.step] = float(tf.make_ndarray(value.tensor))
    return found


def test_a_run_is_written_from_its_begin_to_its_end(strategy, tmp_path):
    replicas = strategy.num_replicas_in_sync
    history = fit(make_model(strategy), *monitors(), logger(tmp_path, every=2))
    rows = read(tmp_path)
    assert [(row["kind"], row["update"]) for row in rows] == [
        *[("run", 0), ("update", 2), ("epoch", 3)],
        *[("update", 4), ("update", 6), ("epoch", 6), ("end", 6)],
    ]
    assert [row.get("epoch") for row in rows] == [0, 0, 0, 1, 1, 1, None]
    times = [row["time"] for row in rows]
    assert times == sorted(times)
    begin = rows[0]
    assert begin["versions"]["tensorflow"] == tf.__version__
    assert begin["versions"].keys() == {"tfdp", "tensorflow", "keras", "python"}
    assert begin["machine"].endswith(" cores")
    assert begin["kernels"] in ("oneDNN", "Eigen")
    assert begin["communication"] is None
    assert begin["strategy"] == "MirroredStrategy"
    assert (begin["workers"], begin["replicas"]) == (1, replicas)
    assert begin["devices"] == ["CPU"] * replicas
    assert begin["accumulation_steps"] == 2
    assert (begin["optimizer"], begin["unit"]) == ("SGD", "samples")
    assert begin["parameters"] == 8 * 16 + 16 + 16 + 1
    for place, row in enumerate(read(tmp_path, "epoch")):
        for key, values in history.items():
            assert row[key] == values[place]
        assert row["seconds"] > 0
    assert rows[-1]["limit"] is rows[-1]["words"] is None


def test_lines_of_updates_have_the_figures_of_then(two_replicas, tmp_path):
    class Seen(keras.callbacks.Callback):
        logs = ()

        def on_train_batch_end(self, batch, logs=None):
            self.logs = (*self.logs, logs)

    seen = Seen()
    fit(
        make_model(two_replicas),
        seen,
        *monitors(),
        logger(tmp_path, every=1),
        epochs=1,
    )
    rate = tfdp.WarmupSchedule(0.1, 8)
    for place, row in enumerate(read(tmp_path, "update")):
        assert row["update"] == place + 1
        assert row["learning_rate"] == pytest.approx(float(rate(place)))
        assert (row["loss_scale"], row["skipped_updates"]) == (1.0, 0)
        step = seen.logs[2 * place + 1]
        assert (row["loss"], row["mae"]) == (step["loss"], step["mae"])
        assert step.keys() == {"loss", "mae"}


def test_it_does_not_change_logs_or_weights(two_replicas, tmp_path):
    models = [make_model(two_replicas) for _ in range(2)]
    histories = [
        fit(models[0]),
        fit(models[1], logger(tmp_path, every=1)),
    ]
    assert histories[0] == histories[1]
    for weight, expected in zip(
        models[1].get_weights(), models[0].get_weights(), strict=True
    ):
        np.testing.assert_array_equal(weight, expected)


def test_the_update_at_the_end_of_an_epoch_has_its_line(two_replicas, tmp_path):
    # Cycles of four, four and two micro-batches: the third is flushed.
    fit(
        make_model(two_replicas, steps=4),
        *monitors(),
        logger(tmp_path, every=3),
        batches=10,
    )
    rows = read(tmp_path, "update", "epoch")
    assert [(row["kind"], row["update"]) for row in rows] == [
        *[("update", 3), ("epoch", 3), ("update", 6), ("epoch", 6)],
    ]
    assert rows[0]["learning_rate"] == rows[1]["learning_rate"]


@pytest.mark.parametrize("steps", [1, 2])
def test_several_steps_may_be_one_execution(two_replicas, tmp_path, steps):
    model = make_model(two_replicas, steps=steps, steps_per_execution=4)
    fit(model, logger(tmp_path, every=3), batches=12, epochs=1)
    updates = [row["update"] for row in read(tmp_path, "update")]
    assert updates == ([4, 8, 12] if steps == 1 else [4, 6])


def test_skipped_updates_count(two_replicas, tmp_path):
    x, y = problem.arrays(4 * BATCH)
    x[:BATCH] = np.inf
    fit(
        make_model(two_replicas, steps=1, loss_scale=8.0),
        *monitors(),
        logger(tmp_path, every=2),
        data=problem.untuned(
            tf.data.Dataset.from_tensor_slices((x, y)).batch(BATCH)
        ),
        epochs=1,
    )
    rows = read(tmp_path, "update")
    assert [row["update"] for row in rows] == [2, 4]
    assert [row["skipped_updates"] for row in rows] == [1, 1]
    assert rows[0]["loss"] is None


def test_the_device_is_read_when_a_line_is_due(
    two_replicas, tmp_path, monkeypatch
):
    reads = []
    updates = inspection.updates

    def counted(*args):
        caller = sys._getframe(2)
        by = pathlib.Path(caller.f_code.co_filename).stem
        # The board has its own, once a second.
        if by != "first_word":
            reads.append(by)
        return updates(*args)

    monkeypatch.setattr(inspection, "updates", counted)
    model = make_model(two_replicas)
    fit(model, logger(tmp_path, every=10), batches=44, epochs=1)
    # At 0, 10 and 20, and at the ends of the epoch and of the fit.
    assert len(reads) == 5


def test_a_metric_does_not_take_the_place_of_another_key(
    two_replicas, tmp_path
):
    with two_replicas.scope():
        model = problem.make_model()
        model.compile(
            tfdp.DistributedOptimizer(keras.optimizers.SGD(0.01)),
            "mse",
            metrics=[keras.metrics.MeanAbsoluteError("epoch")],
        )
    fit(model, logger(tmp_path, every=6))
    epochs = [row["epoch"] for row in read(tmp_path, "update", "epoch")]
    assert epochs == [0, 0, 1, 1]


def test_what_is_no_number_is_left_out_of_epochs(two_replicas, tmp_path):
    class Odd(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs.update(note="good", matrix=np.eye(2), nan=math.nan, two=2)

    fit(make_model(two_replicas), Odd(), logger(tmp_path), epochs=1)
    (row,) = read(tmp_path, "epoch")
    assert "note" not in row
    assert "matrix" not in row
    assert (row["nan"], row["two"]) == (None, 2)


def test_windows_and_the_limit_are_handed_over(two_replicas, tmp_path):
    model = make_model(two_replicas)
    callbacks = [Throughput(), *monitors(), logger(tmp_path)]
    for _ in range(2):
        fit(model, *callbacks, epochs=1)
    rows = read(tmp_path, "window")
    places = [(row["update"], row["worker"]) for row in rows]
    assert places == [(2, 0), (2, 1), (4, 0), (4, 1), (6, 0), (6, 1)]
    assert {row["seconds"] for row in rows} == {None}
    rates = events(tmp_path)["throughput/samples_per_sec"]
    assert rates == {2: 102.0, 4: 104.0, 6: 106.0}
    end = read(tmp_path, "end")[-1]
    assert (end["limit"], end["words"]) == ("input", "the input is slow")
    assert read(tmp_path, "run")[0]["unit"] == "tokens"


def test_tensorboard_shows_it_by_update(two_replicas, tmp_path):
    data = problem.dataset(6 * BATCH, BATCH)
    history = fit(
        make_model(two_replicas),
        *monitors(),
        logger(tmp_path, every=2),
        validation_data=data,
    )
    found = events(tmp_path)
    assert found.keys() == {
        *("train/loss", "train/mae", "epoch/loss", "epoch/mae"),
        *("epoch/val_loss", "epoch/val_mae"),
        *("learning_rate", "loss_scale", "skipped_updates"),
    }
    assert found["train/loss"] == {
        row["update"]: pytest.approx(row["loss"])
        for row in read(tmp_path, "update")
    }
    assert found["epoch/val_loss"] == {
        3: pytest.approx(history["val_loss"][0]),
        6: pytest.approx(history["val_loss"][1]),
    }
    rates = [float(tfdp.WarmupSchedule(0.1, 8)(i - 1)) for i in (2, 3, 4, 6)]
    assert found["learning_rate"] == pytest.approx(
        dict(zip((2, 3, 4, 6), rates, strict=True))
    )


def test_another_callback_may_turn_recording_off(two_replicas, tmp_path):
    with tf.summary.record_if(False):
        fit(make_model(two_replicas), logger(tmp_path), epochs=1)
    assert events(tmp_path)["epoch/loss"].keys() == {3}


def test_events_may_be_left_out(two_replicas, tmp_path):
    callback = logger(tmp_path, tensorboard=False)
    fit(make_model(two_replicas), callback, epochs=1)
    assert [path.name for path in tmp_path.iterdir()] == ["run.jsonl"]


@pytest.fixture
def _without_events(monkeypatch):
    def fail(*arguments):
        raise ImportError("TensorBoard is not installed")

    monkeypatch.setattr(tf.summary, "create_file_writer", fail)


@pytest.mark.usefixtures("_without_events")
def test_where_tensorflow_writes_no_events_there_are_none(
    two_replicas, tmp_path
):
    fit(make_model(two_replicas), logger(tmp_path), epochs=1)
    assert [path.name for path in tmp_path.iterdir()] == ["run.jsonl"]


@pytest.mark.usefixtures("_without_events")
def test_events_that_are_asked_for_must_be_possible(two_replicas, tmp_path):
    with pytest.raises(
        RuntimeError, match=r"write events. Received: ImportError \(Tensor"
    ):
        fit(make_model(two_replicas), logger(tmp_path, tensorboard=True))


@pytest.mark.sampled
@pytest.mark.parametrize("comes_first", [True, False])
@pytest.mark.parametrize("place", [(1, 4), (2, 1)], ids=["within", "between"])
def test_a_resumed_run_begins_where_it_resumes(
    two_replicas, tmp_path, comes_first, place
):
    def train(folder, *others):
        backup = tfdp.callbacks.BackupAndRestore(
            tmp_path / f"{folder}-backups", save_freq=1
        )
        callbacks = [*monitors(), logger(tmp_path / folder, every=1)]
        callbacks.insert(0 if comes_first else len(callbacks), backup)
        fit(make_model(two_replicas), *callbacks, *others, epochs=4)

    train("whole")
    with pytest.raises(Killed):
        train("parts", KillAt(*place))
    train("parts")
    begun = read(tmp_path / "parts", "run")
    resumed = {(1, 4): (5, 1), (2, 1): (6, 2)}[place]
    places = [(row["update"], row["epoch"]) for row in begun]
    assert places == [(0, 0), resumed]
    for kind in ("update", "epoch"):
        # The last line of an update is the one that holds.
        whole, parts = (
            {row["update"]: row for row in read(tmp_path / name, kind)}
            for name in ("whole", "parts")
        )
        assert whole.keys() == parts.keys()
        for update, row in whole.items():
            for key in row.keys() - {"time", "seconds"}:
                assert parts[update][key] == row[key], (kind, update, key)


def test_a_run_that_was_aborted_goes_on_in_the_same_file(
    two_replicas, tmp_path
):
    model, callback = make_model(two_replicas), logger(tmp_path, every=2)
    with pytest.raises(Killed):
        fit(model, callback, KillAt(0, 4))
    with (tmp_path / "run.jsonl").open("a") as file:
        file.write('{"kind": "upd')
    fit(model, callback, epochs=1)
    assert [(row["kind"], row["update"]) for row in read(tmp_path)] == [
        *[("run", 0), ("update", 2), ("run", 2)],
        *[("update", 4), ("update", 6), ("epoch", 6), ("end", 6)],
    ]


def test_a_fit_without_epochs_leaves_no_line(two_replicas, tmp_path):
    fit(make_model(two_replicas), logger(tmp_path), epochs=0)
    assert read(tmp_path) == []


def test_writers_of_keras_may_come_before_and_after(two_replicas, tmp_path):
    fit(
        make_model(two_replicas),
        keras.callbacks.History(),
        keras.callbacks.CSVLogger(tmp_path / "before.csv"),
        *monitors(),
        logger(tmp_path / "run"),
        keras.callbacks.CSVLogger(tmp_path / "after.csv"),
        epochs=1,
    )
    (row,) = read(tmp_path / "run", "epoch")
    head, values = (tmp_path / "after.csv").read_text().splitlines()
    logged = dict(zip(head.split(","), values.split(","), strict=True))
    for name in ("epoch", "loss", "mae", "learning_rate", "loss_scale"):
        assert row[name] == float(logged[name])
    assert "loss_scale" not in (tmp_path / "before.csv").read_text()


def test_keras_alone_may_train(tmp_path):
    model = problem.make_model()
    model.compile("adam", "mse")
    rates = tfdp.callbacks.LearningRateMonitor()
    callbacks = [rates, logger(tmp_path, every=4)]
    data = problem.dataset(6 * BATCH, BATCH)
    model.fit(data, epochs=2, verbose=0, callbacks=callbacks)
    rows = read(tmp_path, "update")
    assert [row["update"] for row in rows] == [4, 8, 12]
    assert rows[0]["learning_rate"] == pytest.approx(0.001)
    begin = read(tmp_path, "run")[0]
    assert (begin["optimizer"], begin["devices"]) == ("Adam", ["CPU"])
    assert (begin["workers"], begin["accumulation_steps"]) == (1, 1)


def test_gpus_have_the_names_of_their_models(
    two_replicas, tmp_path, monkeypatch
):
    name = "/job:localhost/replica:0/task:0/device:GPU:"
    extended = types.SimpleNamespace(
        worker_devices=(name + "0", name + "1", name + "2")
    )
    monkeypatch.setattr(
        tf.config, "get_visible_devices", lambda kind: ["a", "b"]
    )
    details = {"a": {"device_name": "NVIDIA H200"}, "b": {}}
    monkeypatch.setattr(
        tf.config.experimental, "get_device_details", details.get
    )
    model = types.SimpleNamespace(
        _flatten_layers=lambda **kwargs: [],
        distribute_strategy=types.SimpleNamespace(
            extended=extended, num_replicas_in_sync=3
        ),
        optimizer=None,
        weights=[],
    )
    names = tfdp.run_log.header.run_header(model)["devices"]
    assert names == ["NVIDIA H200", "GPU", "GPU"]


@pytest.mark.parametrize("late", [Throughput, tfdp.callbacks.LossScaleMonitor])
def test_it_comes_after_the_monitors(two_replicas, tmp_path, late):
    with pytest.raises(
        RuntimeError, match=f"after the monitors.* Received: {late.__name__} a"
    ):
        fit(make_model(two_replicas), logger(tmp_path), late())


def test_inside_of_another_callback_it_finds_no_monitors(
    two_replicas, tmp_path
):
    inside = tfdp.callbacks.ChiefOnly(logger(tmp_path))
    with pytest.raises(RuntimeError, match=r"of a `fit`.* by something else"):
        fit(make_model(two_replicas), *monitors(), inside)


@pytest.mark.parametrize(
    ("value", "error"), [(0, ValueError), (1.0, TypeError), (True, TypeError)]
)
def test_every_is_a_positive_count(tmp_path, value, error):
    with pytest.raises(error, match=f"Received: every={value}"):
        logger(tmp_path, every=value)


@pytest.mark.parametrize("value", [None, "yes", 1, "logs"])
def test_tensorboard_is_one_of_three(tmp_path, value):
    with pytest.raises(ValueError, match=f"Received: tensorboard={value!r}"):
        logger(tmp_path, tensorboard=value)


def test_a_folder_that_cannot_be_written_is_refused(two_replicas, tmp_path):
    path = tmp_path / "file"
    path.write_text("mine")
    with pytest.raises(ValueError, match="`log_dir` must be a folder"):
        fit(make_model(two_replicas), logger(path))


@pytest.mark.multi_worker
def test_of_several_workers_the_chief_writes(tmp_path):
    reports = tfdp.testing.run_workers(SCRIPT, 2, [str(tmp_path)], timeout=300)
    assert {path.name for path in tmp_path.iterdir()} == {"chief", "chief.csv"}
    folder = tmp_path / "chief"
    assert len(list(folder.glob("events.*"))) == 1
    rows = read(folder)
    assert [(row["kind"], row["update"]) for row in rows] == [
        *[("run", 0), ("update", 2), ("epoch", 3)],
        *[("update", 4), ("update", 6), ("epoch", 6), ("end", 6)],
    ]
    assert (rows[0]["workers"], rows[0]["replicas"]) == (2, 2)
    assert rows[0]["devices"] == ["CPU"]
    assert rows[0]["strategy"] == "MultiWorkerMirroredStrategy"
    for worker in reports:
        assert worker["loss"] == [row["loss"] for row in read(folder, "epoch")]
    assert events(folder)["learning_rate"].keys() == {2, 3, 4, 6}


def test_one_process_tells_where_its_time_went(two_replicas, tmp_path):
    class Naps(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            time.sleep(0.02)

    fit(make_model(two_replicas), logger(tmp_path / "before"), epochs=1)
    data = problem.dataset(6 * BATCH, BATCH)
    models = [make_model(two_replicas) for _ in range(2)]
    begun = time.monotonic()
    for model in models:
        fit(
            model,
            Naps(),
            tfdp.callbacks.RunLogger(tmp_path / "run", every=2),
            validation_data=data,
        )
    passed = time.monotonic() - begun
    goodput, complaints = logged_goodput(tmp_path / "run")
    assert complaints == []
    # Of the fit that was logged elsewhere nothing is told, nor of what comes
    # before a fit begins.
    assert 0.8 * passed < goodput.seconds <= passed
    assert (goodput.made, goodput.starts, goodput.losses) == (12, 1, 0)
    assert goodput.parts["updates"] > 0.02 * 2 * 2 * 4
    assert goodput.parts["tracing"] > 0
    assert goodput.parts["validation"] > 0
    assert goodput.parts["starting"] == 0


def test_without_data_parallel_nothing_is_told_of_time(tmp_path):
    model = problem.make_model()
    model.compile(keras.optimizers.SGD(0.01), "mse")
    callback = tfdp.callbacks.RunLogger(tmp_path)
    data = problem.dataset(BATCH, BATCH)
    model.fit(data, verbose=0, callbacks=[callback])
    assert read(tmp_path, "start", "spent") == []
    assert logged_goodput(tmp_path) == (None, [])
