"""Which private name of Keras moved, of those that `keras_fit` uses."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf
from contracts import contract
from watched_fit import Asking, Recording

from tfdp.upstream.keras import keras_fit


@contract(
    "_maybe_symbolic_build",
    serves="tfdp's strategies do not know Keras's call that wants the shape of "
    "a batch, and fail on several workers or uneven batches",
)
def test_symbolic_build_reduces_a_batch(in_fit):
    strategy = in_fit.strategy
    assert callable(in_fit.model._maybe_symbolic_build)
    assert "_maybe_symbolic_build" in strategy.callers_of_reduce
    assert strategy.symbolic_builds == [
        caller == "_maybe_symbolic_build"
        for caller in strategy.callers_of_reduce
    ]


def test_a_reduction_of_the_user_is_no_symbolic_build(in_fit):
    strategy = Recording()
    strategy.reduce("SUM", strategy.run(lambda: tf.constant(1.0)), axis=None)
    assert strategy.symbolic_builds == [False]


@pytest.mark.parametrize("name", ["train_step", "test_step"])
@contract(
    "the bound train_step and test_step given to Strategy.run",
    serves="a replica without samples fails or spoils the metrics",
)
def test_steps_are_run_as_methods_of_the_model(in_fit, name):
    steps = in_fit.steps["fit"]
    named = [s for s in steps if getattr(s, "__name__", None) == name]
    assert named, f"`fit` ran {steps}"
    assert all(inspect.ismethod(step) for step in named)
    assert all(step.__self__ is in_fit.model for step in named)
    assert all(keras_fit.model_of_step(s, name) is in_fit.model for s in named)
    (other,) = {"train_step", "test_step"} - {name}
    assert not any(keras_fit.model_of_step(s, other) for s in named)


@contract(
    "make_predict_function.<locals>.one_step_on_data",
    serves="`predict` fails where the last batch leaves a replica empty",
)
def test_predict_runs_a_function_of_known_name(in_fit):
    steps = in_fit.steps["predict"]
    assert steps
    assert all(keras_fit.is_predict_step(step) for step in steps)
    assert not any(keras_fit.is_predict_step(s) for s in in_fit.steps["fit"])
    for name in ("train_step", "test_step"):
        assert not any(keras_fit.model_of_step(step, name) for step in steps)


@pytest.mark.parametrize(
    "hook",
    ["on_train_begin", "on_train_batch_end", "on_test_begin", "on_epoch_end"],
)
@contract(
    "the frame of keras.callbacks.CallbackList around a hook",
    serves="callbacks.DataParallel cannot check that it comes first",
)
def test_callbacks_are_found_from_a_hook(in_fit, hook):
    found = in_fit.asking.found[hook]
    assert found is not None
    assert found[:2] == [*in_fit.others, in_fit.asking]


def test_callbacks_are_not_found_outside_of_a_fit():
    assert keras_fit.callbacks_in_use() is None
    asking = Asking()
    asking.on_train_begin()
    assert asking.found == {"on_train_begin": None}


@contract(
    "keras.callbacks.CallbackList.callbacks",
    "CallbackList.params",
    "CallbackList.model",
    serves="workers do not agree on a stop or a signal at the end of a step",
)
def test_a_callback_that_a_hook_adds_is_called(placing):
    model = placing.model
    assert placing.seen == [("begin", model, 1), ("end", model, 0)]


def test_no_callback_is_added_outside_of_a_fit():
    keras_fit.change_callbacks(pytest.fail)


@contract(
    "the variable `epoch_iterator` of the TensorFlow trainer's `fit`",
    serves="a signal ends one worker at once, and the others wait for it; "
    "BackupAndRestore does not know its place in the data",
)
def test_the_fit_under_way_is_found_from_its_callbacks(placing):
    # Two steps, and a validation inside.
    assert len(placing.callback.fits) == 4
    (iterator,) = set(placing.callback.fits)
    assert "TFEpochIterator" in [c.__name__ for c in type(iterator).__mro__]
    assert iterator.steps_per_epoch is None


def test_no_fit_is_under_way_outside_of_one():
    assert keras_fit.fit_under_way() is None


@contract(
    "_initial_epoch",
    serves="BackupAndRestore begins at the first epoch again",
)
def test_fit_begins_at_the_epoch_that_a_callback_sets(placing):
    epochs = []

    class Later(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            keras_fit.begin_at_epoch(self.model, 2)

        def on_epoch_begin(self, epoch, logs=None):
            epochs.append(epoch)

    x, y = np.ones((8, 2), "float32"), np.ones((8, 1), "float32")
    placing.model.fit(x, y, epochs=4, verbose=0, callbacks=[Later()])
    assert epochs == [2, 3]


class Calling(tf.distribute.MirroredStrategy):
    """Notes whether it is Keras that has a step run."""

    def __init__(self):
        super().__init__(["CPU:0"])
        self.own_calls = []

    def run(self, *args, **kwargs):
        self.own_calls.append(keras_fit.is_own_call_of_run())
        return super().run(*args, **kwargs)


@contract(
    "one_step_on_data",
    serves="workers meet for each entry of the logs of a step",
)
@pytest.mark.parametrize("is_eager", [False, True])
def test_keras_is_known_for_who_has_a_step_run(is_eager):
    strategy = Calling()
    with strategy.scope():
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse", run_eagerly=is_eager)
    x, y = np.ones((4, 2), "float32"), np.ones((4, 1), "float32")
    for call in (model.fit, model.evaluate):
        call(x, y, verbose=0)
        assert set(strategy.own_calls) == {True}
        strategy.own_calls.clear()
    strategy.run(model.test_step, ((x, y),))
    assert strategy.own_calls == [False]


class Scoped(tf.distribute.MirroredStrategy):
    """Notes what Keras is about to build when it enters the scope."""

    def __init__(self):
        super().__init__(["CPU:0"])
        self.builds = []

    def scope(self):
        build = keras_fit.symbolic_build()
        if build is not None:
            self.builds.append(build)
        return super().scope()


def one_layer(strategy, kind=keras.Sequential):
    with strategy.scope():
        model = kind([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse", metrics=["mae"])
    return model


@contract(
    "the variables `self` and `data_batch` of _maybe_symbolic_build",
    "its `with self.distribute_strategy.scope()`",
    serves="models with a train_step and no call do not train",
)
def test_a_symbolic_build_is_seen_with_its_model_and_batch():
    strategy = Scoped()
    model = one_layer(strategy)
    x, y = np.ones((4, 2), "float32"), np.ones((4, 1), "float32")
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(4)
    assert strategy.builds == []
    model.fit(data, verbose=0)
    model.evaluate(data, verbose=0)
    model.train_on_batch(x, y)
    model.test_on_batch(x, y)
    assert [build.step for build in strategy.builds] == [
        "train_step",
        "test_step",
        "train_step",
        "test_step",
    ]
    for build in strategy.builds:
        assert build.model is model
        assert [np.shape(each) for each in build.data[:2]] == [(4, 2), (4, 1)]
        assert not build.is_own_step


@contract(
    "Trainer._symbolic_build",
    serves="models with a train_step and no call do not train",
)
def test_a_symbolic_build_can_be_left_out():
    model = one_layer(Scoped())
    build = keras_fit.SymbolicBuild(model, (np.ones((4, 2)),) * 2, "test_step")
    with build.left_out():
        model._symbolic_build(data_batch=build.data)
    assert not model.metrics[1].built
    assert "_symbolic_build" not in vars(model)


def test_a_step_of_the_users_own_is_told_from_keras():
    class Own(keras.Sequential):
        def train_step(self, data):
            return super().train_step(data)

    model = one_layer(Scoped(), Own)
    assert keras_fit.is_own(model, "train_step")
    assert not keras_fit.is_own(model, "test_step")
    step = keras_fit.SymbolicBuild(model, None, "train_step")
    assert step.is_own_step
    assert keras_fit.model_of_any_step(model.test_step) is model
    assert keras_fit.model_of_any_step(model.compute_loss) is None


@contract(
    "TensorFlowTrainer._get_metrics_result_or_logs",
    serves="what is logged of an epoch is one replica's",
)
def test_keras_logs_its_metrics_where_a_step_returns_all_of_them():
    model = one_layer(Scoped())
    assert not keras_fit.logs_metrics(model, {"loss": 0.0, "mae": 0.0})
    model.evaluate(np.ones((4, 2)), np.ones((4, 1)), verbose=0)
    for logs in ({"loss": -1.0, "mae": -1.0}, {"loss": -1.0}):
        kept = model._get_metrics_result_or_logs(logs) is logs
        assert keras_fit.logs_metrics(model, logs) is not kept


@contract(
    "the variables `epoch_iterator` and `initial_epoch` of `fit`",
    serves="workers that take batches by their numbers validate on parts",
)
def test_data_that_are_trained_on_are_known(in_fit):
    # Of `fit`, its validation, and `predict`.
    assert in_fit.strategy.trained_from == [0, None, None]
    assert keras_fit.trained_from(None) is None


def test_where_a_fit_begins_is_what_the_program_gave():
    strategy = Recording()
    with strategy.scope():
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    keras_fit.begin_at_epoch(model, 3)
    x = np.ones((4, 2), "float32")
    model.fit(x, x[:, :1], epochs=4, initial_epoch=1, verbose=0)
    assert strategy.trained_from == [1]


@contract(
    "the arguments of `fit`, by their public names",
    serves="asynchronous workers whose programs differ train on, or wait",
)
def test_what_a_fit_was_given_is_known_when_it_begins():
    found = {}

    class Look(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            found.update(keras_fit.arguments_of_fit())

    assert keras_fit.arguments_of_fit() == {}
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x = np.ones((4, 2), "float32")
    given = {
        "batch_size": 3,
        "epochs": 2,
        "initial_epoch": 1,
        "shuffle": False,
        "validation_freq": 2,
        "class_weight": None,
        "sample_weight": None,
        "steps_per_epoch": None,
        "validation_steps": None,
        "validation_batch_size": None,
        "verbose": 0,
    }
    model.fit(x, x[:, :1], validation_split=0.5, callbacks=[Look()], **given)
    assert {name: found[name] for name in given} == given
    assert found["validation_split"] == 0.5
    assert found["validation_data"] is not None
