"""Which private upstream name moved, and what of tfdp depends on it.

One test per private name that `tfdp/_keras.py` and `tfdp/_tensorflow.py` use.
A failure here is an upstream change; the message says what it breaks.
"""

import ast
import functools
import inspect
import pathlib
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.src.trainers.data_adapters import (
    array_data_adapter,
    array_slicing,
    get_data_adapter,
)
from tensorflow.python.autograph.core import ag_ctx
from tensorflow.python.eager import context
from tensorflow.python.eager.polymorphic_function import polymorphic_function

import tfdp
from tfdp import _keras, _tensorflow, testing

ROOT = pathlib.Path(__file__).parents[1]
SOURCES = sorted([*ROOT.glob("tfdp/**/*.py"), *ROOT.glob("callbacks/*.py")])
DOORWAYS = [ROOT / "tfdp" / "_keras.py", ROOT / "tfdp" / "_tensorflow.py"]
OTHERS = [path for path in SOURCES if path not in DOORWAYS]
# Private names that a tfdp class inherits from Keras and calls on itself.
INHERITED = {
    "tfdp/lars.py": {"_get_variable_index", "_use_weight_decay"},
    "tfdp/momentum.py": {"_get_variable_index"},
    "tfdp/optimizer.py": {
        "_filter_empty_gradients",
        "_get_variable_index",
        "_trainable_variables",
    },
}
BUILT_IN_OPTIMIZERS = sorted(
    name
    for name, value in vars(keras.optimizers).items()
    if isinstance(value, type)
    and issubclass(value, keras.optimizers.Optimizer)
    and name not in ("Optimizer", "LossScaleOptimizer", "MultiOptimizer")
)
has_multi_optimizer = pytest.mark.skipif(
    not hasattr(keras.optimizers, "MultiOptimizer"), reason="new in Keras 3.13"
)
_checked = set()


def contract(*names, serves):
    """Makes a failure of the test say what moved and what it breaks."""
    _checked.update(names)

    def decorate(test):
        @functools.wraps(test)
        def checked(*args, **kwargs):
            try:
                test(*args, **kwargs)
            except Exception as error:
                raise AssertionError(
                    f"{', '.join(names)} moved or changed in Keras "
                    f"{keras.__version__} / TensorFlow {tf.__version__}. "
                    f"Without it, {serves}. {type(error).__name__}: {error}"
                ) from error

        return checked

    return decorate


class Recording(tf.distribute.MirroredStrategy):
    """Notes how Keras calls what tfdp's strategies override."""

    def __init__(self):
        super().__init__(
            ["CPU:0", "CPU:1"], tf.distribute.ReductionToOneDevice()
        )
        self.given_to_run = []
        self.callers_of_reduce = []
        self.symbolic_builds = []
        self.callers_of_distribute = []
        self.reshuffled = []

    def run(self, fn, args=(), kwargs=None, options=None):
        self.given_to_run.append(fn)
        return super().run(fn, args, kwargs, options)

    def reduce(self, reduce_op, value, axis):
        caller = inspect.currentframe().f_back
        self.callers_of_reduce.append(caller.f_code.co_name)
        self.symbolic_builds.append(_keras.is_symbolic_build())
        return super().reduce(reduce_op, value, axis)

    def experimental_distribute_dataset(self, dataset, options=None):
        caller = inspect.currentframe().f_back
        self.callers_of_distribute.append(
            (caller.f_code.co_name, caller.f_locals.get("self"))
        )
        self.reshuffled.append(_keras.reshuffled_arrays(seed=1))
        return super().experimental_distribute_dataset(dataset, options)


class Asking(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.found = {}

    def on_train_begin(self, logs=None):
        self.found["on_train_begin"] = _keras.callbacks_in_use()

    def on_train_batch_end(self, batch, logs=None):
        self.found["on_train_batch_end"] = _keras.callbacks_in_use()

    def on_test_begin(self, logs=None):
        self.found["on_test_begin"] = _keras.callbacks_in_use()

    def on_epoch_end(self, epoch, logs=None):
        self.found["on_epoch_end"] = _keras.callbacks_in_use()


@pytest.fixture(scope="module")
def in_fit():
    """What Keras did in one `fit` with validation, and one `predict`."""
    strategy = Recording()
    with strategy.scope():
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    x = np.arange(16, dtype="float32").reshape(8, 2)
    y = np.arange(8, dtype="float32")[:, np.newaxis]
    asking = Asking()
    others = [keras.callbacks.TerminateOnNaN()]
    fit = {"batch_size": 4, "verbose": 0, "callbacks": [*others, asking]}
    model.fit(x, y, validation_data=(x, y), **fit)
    steps = {"fit": list(strategy.given_to_run)}
    strategy.given_to_run.clear()
    model.predict(x, batch_size=4, verbose=0)
    steps["predict"] = list(strategy.given_to_run)
    return types.SimpleNamespace(
        strategy=strategy,
        model=model,
        x=x,
        y=y,
        asking=asking,
        others=others,
        steps=steps,
    )


@pytest.fixture
def variables():
    return [
        keras.Variable(np.ones((2, 2), "float32"), name="kernel"),
        keras.Variable(np.ones((2,), "float32"), name="bias"),
    ]


# The optimizer.


@pytest.mark.parametrize("name", BUILT_IN_OPTIMIZERS)
@contract(
    "_all_reduce_sum_gradients",
    serves="DistributedOptimizer's inner optimizer sums gradients over the "
    "replicas a second time",
)
def test_update_sums_gradients_in_one_replaceable_place(name, variables):
    optimizer = getattr(keras.optimizers, name)(learning_rate=0.1)
    calls = []

    def note(grads_and_vars):
        calls.append(list(grads_and_vars))
        return list(grads_and_vars)

    assert callable(optimizer._all_reduce_sum_gradients)
    optimizer._all_reduce_sum_gradients = note
    # What comes after the sum is not of interest, and fails in Keras 3.10's
    # own Muon.
    optimizer.update_step = lambda gradient, variable, learning_rate: None
    optimizer.build(variables)
    gradients = [tf.ones(v.shape) for v in variables]
    optimizer.apply(gradients, variables)
    assert len(calls) == 1, f"{name} called it {len(calls)} times in an update"
    assert [g for g, _ in calls[0]] == gradients, f"{name} gave other pairs"
    for (_, given), variable in zip(calls[0], variables, strict=True):
        assert given is variable.value


@contract(
    "_backend_update_step",
    serves="the identity that tfdp puts there does not take the sum's place",
)
def test_update_step_of_the_backend_is_what_sums_gradients(variables):
    optimizer = keras.optimizers.SGD(0.1)
    callers = []

    def note(grads_and_vars):
        callers.append(inspect.currentframe().f_back.f_code.co_name)
        return list(grads_and_vars)

    optimizer._all_reduce_sum_gradients = note
    optimizer.apply([tf.ones(v.shape) for v in variables], variables)
    assert callers == ["_backend_update_step"]


@contract(
    "_all_reduce_sum_gradients",
    serves="the inner optimizer sums what is reduced already",
)
def test_the_copy_takes_a_reduced_gradient_as_it_is(two_replicas):
    def weight_after_an_update(make):
        with two_replicas.scope():
            weight = keras.Variable(0.0)
            optimizer = make(keras.optimizers.SGD(1.0))
            optimizer.build([weight])

        @tf.function
        def step():
            two_replicas.run(
                lambda: optimizer.apply([tf.constant(1.0)], [weight])
            )

        step()
        return float(weight.numpy())

    assert weight_after_an_update(lambda plain: plain) == -2.0
    copy = _keras.copy_that_takes_reduced_gradients
    assert weight_after_an_update(copy) == -1.0


@contract(
    "_learning_rate",
    serves="the inner optimizer's copy loses a schedule shared with the user, "
    "and `scale_learning_rate` finds no rate",
)
def test_optimizer_keeps_the_schedule_it_was_given():
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5)
    assert keras.optimizers.SGD(schedule)._learning_rate is schedule

    def rate():
        return 0.25

    assert keras.optimizers.SGD(rate)._learning_rate is rate
    assert isinstance(keras.optimizers.SGD(0.1)._learning_rate, keras.Variable)
    copies = _keras.copy_that_takes_reduced_gradients, _keras.copy_of
    for given in (schedule, rate):
        for copy in copies:
            copied = copy(keras.optimizers.SGD(given))
            assert copied._learning_rate is given
            assert _keras.given_rate(copied) is given
    assert _keras.given_rate(keras.optimizers.SGD(0.25)) == 0.25


@contract(
    "_exclude_from_weight_decay",
    "_exclude_from_weight_decay_pattern",
    serves="the inner optimizer decays weights that the user has excluded",
)
def test_exclusions_from_weight_decay_are_attributes(variables):
    kernel, bias = variables
    by_variable = keras.optimizers.AdamW(0.1)
    by_variable.exclude_from_weight_decay(var_list=[kernel])
    by_name = keras.optimizers.AdamW(0.1)
    by_name.exclude_from_weight_decay(var_names=["bias"])
    assert by_variable._exclude_from_weight_decay
    assert by_name._exclude_from_weight_decay_pattern
    copy = _keras.copy_that_takes_reduced_gradients
    for optimizer, decays in [(by_variable, [bias]), (by_name, [kernel])]:
        copied = copy(optimizer)
        copied.build(variables)
        copied.learning_rate = 1.0
        before = [v.numpy() for v in variables]
        copied.apply([tf.zeros(v.shape) for v in variables], variables)
        moved = [
            v
            for v, old in zip(variables, before, strict=True)
            if not np.array_equal(v.numpy(), old)
        ]
        assert [v.name for v in moved] == [v.name for v in decays]


@contract(
    "_trainable_variables",
    "_get_variable_index",
    serves="DistributedOptimizer does not know which sum is whose gradient",
)
def test_optimizer_numbers_the_variables_it_was_built_with(variables):
    optimizer = keras.optimizers.SGD(0.1)
    optimizer.build(variables)
    held = optimizer._trainable_variables
    assert all(v is w for v, w in zip(held, variables, strict=True))
    assert [optimizer._get_variable_index(v) for v in variables] == [0, 1]


@contract(
    "_use_weight_decay",
    serves="LARS decays variables that were excluded from it",
)
def test_optimizer_knows_what_is_excluded_from_weight_decay(variables):
    optimizer = keras.optimizers.SGD(0.1)
    optimizer.exclude_from_weight_decay(var_names=[variables[1].path])
    assert [optimizer._use_weight_decay(v) for v in variables] == [True, False]


@contract(
    "_filter_empty_gradients",
    serves="DistributedOptimizer accumulates gradients that are None",
)
def test_missing_gradients_are_left_out_with_their_variables(variables):
    optimizer = keras.optimizers.SGD(0.1)
    gradient = tf.ones((2, 2))
    with pytest.warns(UserWarning, match="Gradients do not exist"):
        kept = optimizer._filter_empty_gradients([gradient, None], variables)
    assert kept[0] == [gradient]
    assert [v.name for v in kept[1]] == ["kernel"]


@contract(
    "LossScaleOptimizer",
    serves="`compile` under mixed_float16 wraps DistributedOptimizer once more",
)
def test_compile_does_not_wrap_what_scales_the_loss_itself():
    keras.config.set_dtype_policy("mixed_float16")
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    optimizer = tfdp.DistributedOptimizer(keras.optimizers.SGD(0.1))
    model.compile(optimizer, "mse")
    assert model.optimizer is optimizer


def weight_after_two_updates(optimizer):
    weight = keras.Variable(1.0)
    optimizer.build([weight])
    for _ in range(2):
        optimizer.apply([tf.constant(1.0)], [weight])
    return weight


@contract(
    "_overwrite_model_variables_with_average_value",
    serves="the inner optimizer overwrites weights by their average in "
    "replica context, which fails, or tfdp never does",
)
def test_weights_are_overwritten_in_one_replaceable_place():
    def make():
        return keras.optimizers.SGD(
            1.0, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=1
        )

    assert float(weight_after_two_updates(make()).numpy()) == -0.5
    copy = _keras.copy_that_takes_reduced_gradients(make())
    weight = weight_after_two_updates(copy)
    assert float(weight.numpy()) == -1.0
    _keras.overwrite_with_average(copy)
    assert float(weight.numpy()) == -0.5


@has_multi_optimizer
@pytest.mark.parametrize("kind", ["map", "function"])
@contract(
    "MultiOptimizer",
    "_optimizer_map",
    serves="the optimizers inside of a MultiOptimizer sum gradients over the "
    "replicas a second time",
)
def test_multi_optimizer_keeps_what_chooses_its_optimizers(variables, kind):
    inner = keras.optimizers.SGD(1.0), keras.optimizers.Adam(0.1)
    chosen = keras.optimizers.OptimizerMap(inner[0], {"bias": inner[1]})
    given = chosen if kind == "map" else lambda variable: chosen(variable)
    optimizer = keras.optimizers.MultiOptimizer(given)
    assert _keras.is_multi_optimizer(optimizer)
    assert optimizer._optimizer_map is given
    copy = _keras.copy_that_takes_reduced_gradients(optimizer)
    copy.build(variables)
    kinds = {type(each) for each in copy.optimizers}
    assert kinds == {keras.optimizers.SGD, keras.optimizers.Adam}
    for each in copy.optimizers:
        assert each not in inner
        assert each._all_reduce_sum_gradients is list


@has_multi_optimizer
@contract(
    "MultiOptimizer",
    serves="a step that trains some of a MultiOptimizer's variables fails",
)
def test_multi_optimizer_takes_none_for_a_missing_gradient(variables):
    both = [*variables, keras.Variable(np.ones((2,), "float32"), name="more")]
    chosen = keras.optimizers.OptimizerMap(
        keras.optimizers.SGD(1.0), {"bias": keras.optimizers.SGD(1.0)}
    )
    optimizer = keras.optimizers.MultiOptimizer(chosen)
    optimizer.build(both)
    gradients = [tf.ones(2), tf.ones(2)]
    gradients, filled = _keras.with_missing_gradients(
        optimizer, gradients, both[1:]
    )
    assert gradients[0] is None
    assert [v.name for v in filled] == ["kernel", "bias", "more"]
    with pytest.warns(UserWarning, match="Gradients do not exist"):
        optimizer.apply(gradients, filled)
    assert [float(v.numpy().sum()) for v in both] == [4.0, 0.0, 0.0]


# Layers and losses.


@contract(
    "keras.random.SeedGenerator.__init__",
    serves="random layers draw the same numbers on every replica",
)
def test_seed_generator_makes_its_state_in_its_constructor():
    found = []

    def creator(next_creator, **arguments):
        found.append(_keras.seed_generator_under_construction())
        return next_creator(**arguments)

    with tf.variable_creator_scope(creator):
        generator = keras.random.SeedGenerator(1)
        layer = keras.layers.Dropout(0.5)
        keras.Variable(1.0)
    assert found == [generator, layer.seed_generator, None]


@contract(
    "_non_trainable_variables",
    serves="the statistics of BatchNormalization are not averaged over "
    "replicas, or the seeds of random layers are",
)
def test_layer_keeps_statistics_apart_from_seeds_and_metrics():
    class Counting(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.seed_generator = keras.random.SeedGenerator(1)
            self.mean = keras.metrics.Mean()

    normalization = keras.layers.BatchNormalization()
    normalization.build((None, 2))
    held = normalization._non_trainable_variables
    assert [v.name for v in held] == ["moving_mean", "moving_variance"]
    found = _keras.own_non_trainable_weights(normalization)
    assert [id(v) for v in found] == [id(v) for v in held]
    counting = Counting()
    (seed,) = counting.non_trainable_variables
    assert seed is counting.seed_generator.state
    assert counting.metrics_variables
    assert _keras.own_non_trainable_weights(counting) == []


@contract(
    "backend.get_keras_mask",
    serves="losses of masked outputs are averaged by samples",
)
def test_mask_is_attached_to_a_tensor():
    classes = np.array([[1, 2, 0], [3, 0, 0]])
    outputs = keras.layers.Embedding(4, 2, mask_zero=True)(classes)
    np.testing.assert_array_equal(_keras.mask_of(outputs), classes != 0)
    assert _keras.mask_of(tf.ones((2, 3))) is None
    symbolic = keras.layers.Embedding(4, 2, mask_zero=True)(keras.Input((3,)))
    assert _keras.mask_of(symbolic) is not None


@contract(
    "losses.loss.reduce_weighted_values",
    "losses.loss.apply_mask",
    "losses.loss.squeeze_or_expand_to_same_rank",
    serves="tfdp.DistributedLoss weighs samples or masks unlike Keras",
)
def test_losses_are_summed_as_keras_does():
    class Masked(keras.losses.Loss):
        def call(self, y_true, y_pred):
            return y_pred

    masked = Masked(reduction="sum")
    values = tf.constant([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    weights = tf.constant([[1.0], [2.0]])
    mask = tf.constant([[True, True, False], [True, False, False]])
    total, together = _keras.weighted_sum(values, weights, mask)
    assert float(total) == 11.0
    np.testing.assert_array_equal(together, [[1, 1, 0], [2, 0, 0]])
    total, together = _keras.weighted_sum(values[:, :1], weights[:, 0], None)
    assert float(total) == float(masked(0.0, values[:, :1], weights))
    np.testing.assert_array_equal(together, weights)
    total, together = _keras.weighted_sum(values, None, None)
    assert float(total) == 21.0
    assert together is None


@contract(
    "LossFunctionWrapper",
    serves="functions given to tfdp.DistributedLoss are no losses",
)
def test_function_becomes_the_loss_that_compile_makes_of_it():
    def off(y_true, y_pred):
        return tf.reduce_mean(tf.abs(y_true - y_pred), axis=-1)

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    model.compile("sgd", off)
    y, y_pred = tf.ones((4, 3)), tf.reshape(tf.range(12.0), (4, 3))
    loss = _keras.as_loss(off)
    assert isinstance(loss, keras.losses.Loss)
    assert loss.name == "off"
    expected = model.compute_loss(None, y, y_pred)
    assert float(loss(y, y_pred)) == float(expected)
    assert isinstance(_keras.as_loss(lambda a, b: a - b), keras.losses.Loss)


# `fit` and `predict`.


@contract("_symbolic_build", serves="an audit cannot build a model")
def test_symbolic_build_makes_model_and_metrics():
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", ["mse"], metrics=["mae"])
    _keras.build(model, (tf.ones((2, 3)), tf.ones((2, 1)), None))
    assert model.built
    assert model.metrics_variables
    np.testing.assert_array_equal(model.metrics[0].result(), 0)


@contract(
    "_call_has_training_arg",
    serves="an audit does not know how to call a model",
)
def test_calls_with_and_without_training_are_told_apart():
    class Plain(keras.Model):
        def call(self, x):
            return x

    class Dropping(keras.Model):
        def call(self, x, training=True):
            return x * 0 if training else x

    for model in (Plain(), Dropping()):
        np.testing.assert_array_equal(_keras.outputs_of(model, tf.ones(2)), 1)


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
    assert all(_keras.model_of_step(s, name) is in_fit.model for s in named)
    (other,) = {"train_step", "test_step"} - {name}
    assert not any(_keras.model_of_step(s, other) for s in named)


@contract(
    "TensorFlowTrainer.make_predict_function.<locals>.one_step_on_data",
    serves="`predict` fails where the last batch leaves a replica empty",
)
def test_predict_runs_a_function_of_known_name(in_fit):
    steps = in_fit.steps["predict"]
    assert steps
    names = {step.__qualname__ for step in steps}
    assert names == {
        "TensorFlowTrainer.make_predict_function.<locals>.one_step_on_data"
    }
    assert all(_keras.is_predict_step(step) for step in steps)
    assert not any(_keras.is_predict_step(s) for s in in_fit.steps["fit"])
    for name in ("train_step", "test_step"):
        assert not any(_keras.model_of_step(step, name) for step in steps)


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
    assert _keras.callbacks_in_use() is None
    asking = Asking()
    asking.on_train_begin()
    assert asking.found == {"on_train_begin": None}


@contract(
    "EpochIterator.data_adapter",
    "TFEpochIterator.__init__ calling experimental_distribute_dataset",
    serves="workers shuffle the arrays given to `fit` in different orders",
)
def test_epoch_iterator_distributes_the_data_of_its_adapter(in_fit):
    callers = in_fit.strategy.callers_of_distribute
    assert callers
    for name, caller in callers:
        assert name == "__init__"
        assert type(caller).__name__ == "TFEpochIterator"
        assert isinstance(
            caller.data_adapter, array_data_adapter.ArrayDataAdapter
        )


@contract(
    "ArrayDataAdapter",
    "_shuffle",
    "_inputs",
    "_num_samples",
    serves="workers shuffle the arrays given to `fit` in different orders",
)
@pytest.mark.parametrize("shuffle", [True, False, "batch"])
def test_array_adapter_keeps_what_it_was_given(shuffle):
    x, y = np.zeros((10, 3)), np.zeros((10, 1))
    adapter = array_data_adapter.ArrayDataAdapter(
        x, y, batch_size=4, shuffle=shuffle
    )
    assert adapter._shuffle == shuffle
    assert type(adapter._shuffle) is type(shuffle)
    assert adapter._inputs[0] is x
    assert adapter._inputs[1] is y
    assert adapter._num_samples == 10
    assert adapter.batch_size == 4


@contract(
    "GeneratorDataAdapter",
    "PyDatasetAdapter",
    serves="an order that Python decides on is not told when backing up",
)
def test_python_code_that_shuffles_is_known():
    class Rows(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return np.zeros((2, 3)), np.zeros((2, 1))

    def shuffles(data, **options):
        adapter = get_data_adapter(data, **options)
        fit = types.SimpleNamespace(data_adapter=adapter)
        return _keras.shuffles_in_python(fit)

    assert shuffles(row for row in [Rows()[0]])
    assert shuffles(Rows(workers=0), shuffle=True)
    assert not shuffles(Rows(workers=0), shuffle=False)
    assert not shuffles(np.zeros((4, 3)), shuffle=True)


@contract(
    "array_slicing.convert_to_sliceable",
    serves="workers shuffle the arrays given to `fit` in different orders",
)
def test_arrays_are_converted_in_their_structure():
    arrays = {"a": np.zeros((4, 2)), "b": [np.ones(4), tf.ones((4, 1))]}
    converted = array_slicing.convert_to_sliceable(
        arrays, target_backend="tensorflow"
    )
    keras.tree.assert_same_structure(arrays, converted)
    np.testing.assert_array_equal(converted["b"][0], np.ones(4))


def test_arrays_to_shuffle_are_found_from_fit_alone(in_fit):
    fit, validation, *others = in_fit.strategy.reshuffled
    assert [validation, *others] == [None] * (1 + len(others))
    batches = list(fit)
    assert [len(y) for _, y in batches] == [4, 4]
    x, y = (tf.concat(part, 0) for part in zip(*batches, strict=True))
    order = np.argsort(np.ravel(y))
    assert list(order) != sorted(order), "the arrays were not shuffled"
    np.testing.assert_array_equal(tf.gather(x, order), in_fit.x)
    np.testing.assert_array_equal(tf.gather(y, order), in_fit.y)


@contract(
    "_flatten_layers",
    serves="tfdp overlooks layers inside of layers, such as a "
    "BatchNormalization in a nested model",
)
def test_layers_inside_of_layers_are_found():
    inner = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    dense = keras.layers.Dense(2)
    wrapped = keras.layers.TimeDistributed(inner)
    model = keras.Sequential([keras.Input((3, 2)), dense, wrapped])
    found = list(model._flatten_layers(include_self=False, recursive=True))
    assert all(each in found for each in (dense, wrapped, inner, *inner.layers))
    assert model not in found
    assert _keras.all_layers(model) == found


# TensorFlow.


@contract(
    "polymorphic_function.Function",
    serves="tfdp's strategies take a `tf.function` for a plain function",
)
def test_tf_function_is_an_instance_of_its_class():
    made = tf.function(lambda: 1)
    assert isinstance(made, polymorphic_function.Function)
    assert _tensorflow.is_tf_function(made)
    assert not _tensorflow.is_tf_function(lambda: 1)


@contract(
    "_clone",
    serves="a `tf.function` given to a strategy's `run` loses its options",
)
def test_clone_of_a_tf_function_keeps_its_options():
    signature = [tf.TensorSpec([None], tf.float32)]
    function = tf.function(
        lambda x: x + 1,
        input_signature=signature,
        jit_compile=True,
        autograph=False,
        reduce_retracing=True,
    )
    clone = _tensorflow.wrapped_inside(function, lambda inside: lambda x: x + 2)
    assert clone is not function
    # `Strategy.run` converts what it is given.
    assert _tensorflow.is_tf_function(_tensorflow.converted_by_autograph(clone))
    assert float(clone(tf.zeros([1]))[0]) == 2.0
    assert float(clone(tf.zeros([2]))[0]) == 2.0
    assert float(function(tf.zeros([1]))[0]) == 1.0
    assert clone.experimental_get_tracing_count() == 1
    assert clone.input_signature == tuple(signature)
    for option in ("_jit_compile", "_autograph", "_reduce_retracing"):
        assert getattr(clone, option) == getattr(function, option)


@contract(
    "_autograph",
    serves="a Python `if` on a tensor fails in a `tf.function` given to a "
    "tfdp strategy's `run`",
)
@pytest.mark.parametrize("autograph", [True, False])
def test_a_tf_function_tells_whether_autograph_converts_it(autograph):
    assert tf.function(lambda: 1, autograph=autograph)._autograph is autograph


@contract(
    "__internal__",
    serves="a Python `if` on a tensor fails in a function given to a tfdp "
    "strategy's `run`",
)
def test_autograph_converts_as_strategy_run_does():
    def sign(x):
        if x > 0:
            return tf.constant(1)
        return tf.constant(-1)

    @tf.function
    def converted(x):
        return _tensorflow.converted_by_autograph(sign)(x)

    plain = tf.distribute.get_strategy()

    @tf.function
    def run(x):
        return plain.run(sign, args=(x,))

    for function in (converted, run):
        assert [int(function(tf.constant(v))) for v in (2.0, -2.0)] == [1, -1]

    @tf.autograph.experimental.do_not_convert
    def not_converted(x):
        return _tensorflow.converted_by_autograph(sign)(x)

    with pytest.raises(tf.errors.OperatorNotAllowedInGraphError):
        tf.function(not_converted)(tf.constant(2.0))


@contract(
    "ag_ctx.ControlStatusCtx",
    "ag_ctx.Status",
    serves="a Python `if` on a tensor fails in a `tf.function` given to a "
    "tfdp strategy's `run`",
)
def test_conversion_by_autograph_is_asked_for_by_a_context():
    def sign(x):
        if x > 0:
            return tf.constant(1)
        return tf.constant(-1)

    enabled = ag_ctx.ControlStatusCtx(ag_ctx.Status.ENABLED)
    converted = tf.__internal__.autograph.tf_convert(sign, enabled)

    @tf.function(autograph=False)
    def function(x):
        return converted(x)

    assert [int(function(tf.constant(v))) for v in (2.0, -2.0)] == [1, -1]


@contract(
    "context.global_seed",
    serves="workers agree on another data seed than `tf.random.set_seed` set",
)
def test_global_seed_is_what_set_seed_has_set():
    try:
        tf.random.set_seed(1234)
        assert context.global_seed() == 1234
        assert _tensorflow.global_seed() == 1234
    finally:
        context.set_global_seed(None)
    assert _tensorflow.global_seed() is None


@pytest.mark.multi_worker
@contract(
    "_num_workers",
    "_id_in_cluster",
    "wait_at_barrier",
    serves="MultiWorkerMirroredStrategy does not know who is the chief, or "
    "aborts as a process makes its second",
)
def test_strategy_knows_its_workers(tmp_path):
    script = tmp_path / "worker.py"
    script.write_text(
        "import tensorflow as tf\n"
        "from tfdp import _tensorflow, testing\n"
        "strategy = tf.distribute.MultiWorkerMirroredStrategy()\n"
        "extended = strategy.extended\n"
        "_tensorflow.wait_for_all_tasks('contract', seconds=60)\n"
        "testing.report([\n"
        "    extended._num_workers, extended._id_in_cluster,\n"
        "    _tensorflow.num_workers(strategy),\n"
        "    _tensorflow.worker_index(strategy),\n"
        "])\n"
    )
    assert testing.run_workers(script, 2, timeout=400) == [
        [2, 0, 2, 0],
        [2, 1, 2, 1],
    ]


@contract(
    "_seed",
    "_seed2",
    serves="workers that shuffle in different orders are not noticed",
)
def test_shuffled_dataset_holds_its_seeds():
    dataset = tf.data.Dataset.range(8).shuffle(8, seed=3)
    assert int(dataset._seed2) == 3
    assert int(dataset._seed) >= 0
    assert _tensorflow.shuffle_seeds(dataset) == [
        int(dataset._seed),
        int(dataset._seed2),
    ]


@contract(
    "_inputs",
    serves="workers that shuffle in different orders are not noticed",
)
def test_dataset_knows_what_it_was_made_from():
    source = tf.data.Dataset.range(8)
    shuffled = source.shuffle(8, seed=3)
    batched = shuffled.batch(2)
    assert batched._inputs() == [shuffled]
    zipped = tf.data.Dataset.zip(batched, source)
    assert list(zipped._inputs()) == [batched, source]
    seeds = _tensorflow.shuffle_seeds(shuffled)
    assert _tensorflow.shuffle_seeds(zipped) == seeds


@contract(
    "_functions",
    serves="workers that shuffle inside of `Dataset.map` or `interleave` in "
    "different orders are not noticed",
)
def test_dataset_knows_its_functions():
    def dataset(seed):
        return tf.data.Dataset.range(2).map(
            lambda _: tf.random.shuffle(tf.range(8), seed=seed)
        )

    (wrapper,) = dataset(3)._functions()
    operations = [n.op for n in wrapper.function.graph.as_graph_def().node]
    assert "RandomShuffle" in operations
    assert 3 in _tensorflow.shuffle_seeds(dataset(3))
    assert 3 not in _tensorflow.shuffle_seeds(dataset(4))


@contract(
    "_functions",
    serves="workers that shuffle inside of `Dataset.interleave` in different "
    "orders are not noticed",
)
@pytest.mark.parametrize("method", ["interleave", "flat_map"])
def test_seeds_of_nested_datasets_are_found(method):
    def seeds(seed):
        def nested(_):
            return tf.data.Dataset.range(8).shuffle(8, seed=seed)

        outer = tf.data.Dataset.range(2)
        return _tensorflow.shuffle_seeds(getattr(outer, method)(nested))

    assert seeds(3) == seeds(3)
    assert seeds(3) != seeds(4)


class Placing(keras.callbacks.Callback):
    """Puts a callback after itself, and looks at the fit around it."""

    def __init__(self, placed):
        super().__init__()
        self.placed = placed
        self.fits = []

    def on_train_begin(self, logs=None):
        _keras.change_callbacks(lambda callbacks: [*callbacks, self.placed])
        self.fits.append(_keras.fit_under_way())

    def on_train_batch_end(self, batch, logs=None):
        self.fits.append(_keras.fit_under_way())

    def on_test_begin(self, logs=None):
        self.fits.append(_keras.fit_under_way())


@pytest.fixture(scope="module")
def placing():
    """What callbacks saw in a `fit` of a tfdp strategy's model."""
    strategy = tfdp.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    seen = []

    class Placed(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            seen.append(("begin", self.model, self.params["epochs"]))

        def on_epoch_end(self, epoch, logs=None):
            seen.append(("end", self.model, epoch))

    x, y = np.ones((8, 2), "float32"), np.ones((8, 1), "float32")
    callback = Placing(Placed())
    fit = {"batch_size": 4, "verbose": 0, "validation_data": (x, y)}
    model.fit(x, y, callbacks=[callback], **fit)
    return types.SimpleNamespace(callback=callback, model=model, seen=seen)


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
    _keras.change_callbacks(pytest.fail)


@contract(
    "EpochIterator",
    "the variable `epoch_iterator` of TensorFlowTrainer.fit",
    serves="a signal ends one worker at once, and the others wait for it; "
    "BackupAndRestore does not know its place in the data",
)
def test_the_fit_under_way_is_found_from_its_callbacks(placing):
    # Two steps, and a validation inside.
    assert len(placing.callback.fits) == 4
    (iterator,) = set(placing.callback.fits)
    assert type(iterator).__name__ == "TFEpochIterator"
    assert iterator.steps_per_epoch is None


def test_no_fit_is_under_way_outside_of_one():
    assert _keras.fit_under_way() is None


@contract(
    "_distributed_dataset",
    serves="BackupAndRestore does not know how often the data were begun",
)
def test_epoch_iterator_holds_the_dataset_that_the_strategy_made(placing):
    dataset = _keras.distributed_dataset(placing.callback.fits[0])
    assert isinstance(dataset, _tensorflow.DistributedDataset)
    assert dataset.times_begun >= 1


@contract(
    "_initial_epoch",
    serves="BackupAndRestore begins at the first epoch again",
)
def test_fit_begins_at_the_epoch_that_a_callback_sets(placing):
    epochs = []

    class Later(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            _keras.begin_at_epoch(self.model, 2)

        def on_epoch_begin(self, epoch, logs=None):
            epochs.append(epoch)

    x, y = np.ones((8, 2), "float32"), np.ones((8, 1), "float32")
    placing.model.fit(x, y, epochs=4, verbose=0, callbacks=[Later()])
    assert epochs == [2, 3]


@contract(
    "input_lib.DistributedDataset",
    serves="Keras, or a `for` in a `tf.function`, does not take the dataset "
    "that counts its epochs for a distributed one",
)
def test_a_strategy_makes_distributed_datasets(two_replicas):
    plain = tf.distribute.MirroredStrategy(
        ["CPU:0", "CPU:1"], tf.distribute.ReductionToOneDevice()
    )
    made = plain.experimental_distribute_dataset(
        tf.data.Dataset.range(4).batch(2)
    )
    assert isinstance(made, _tensorflow.DistributedDataset)


@contract(
    "_inputs",
    serves="workers that are given other samples are not noticed",
)
def test_the_sources_of_a_pipeline_are_found():
    one, other = tf.data.Dataset.range(8), tf.data.Dataset.range(9)
    zipped = tf.data.Dataset.zip(one.shuffle(8).batch(2), other.map(abs))
    assert _tensorflow.source_datasets(zipped.prefetch(1)) == [one, other]
    assert _tensorflow.source_datasets(one) == [one]


@contract(
    "context.context",
    "configure_coordination_service",
    "coordination_service",
    "coordination_config_pb2.CoordinatedJob",
    serves="a lost worker is noticed after minutes, not seconds",
)
def test_the_heartbeat_is_configured_once(monkeypatch):
    fresh = context.Context()
    monkeypatch.setattr(context, "context", lambda: fresh)
    assert fresh.coordination_service is None
    for seconds in (2.5, 9.0):
        _tensorflow.configure_heartbeat(
            {"chief": 1, "worker": 3}, seconds=seconds
        )
    config = fresh.config.experimental.coordination_config
    assert fresh.coordination_service is not None
    assert config.service_type == "standalone"
    assert config.service_leader == "/job:chief/replica:0/task:0"
    assert config.heartbeat_timeout_in_ms == 2500
    assert [(j.name, j.num_tasks) for j in config.coordinated_job_list] == [
        ("chief", 1),
        ("worker", 3),
    ]


@contract(
    "_config",
    "recv_buf_max_chunk",
    serves="chunks that gradients are sent in",
)
def test_the_size_of_chunks_is_configured_unless_chosen(monkeypatch):
    fresh = context.Context()
    monkeypatch.setattr(context, "context", lambda: fresh)
    fresh.log_device_placement = True
    for size in (4096, 8192):
        _tensorflow.send_in_chunks(size)
    assert fresh.config.experimental.recv_buf_max_chunk == 4096
    assert fresh.config.log_device_placement


# Nothing private outside of the doorways.


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def is_private(name):
    return name.startswith("_") and not name.endswith("__")


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def attributes(tree):
    """Names of attributes, and what they are looked up on, as source."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield node.attr, ast.unparse(node.value)


def test_both_doorways_are_there():
    assert all(path.exists() for path in DOORWAYS)
    assert len(OTHERS) > 10


@pytest.mark.parametrize("path", OTHERS, ids=name_of)
def test_private_modules_are_imported_in_the_doorways_only(path):
    tree = ast.parse(path.read_text())
    private = [
        name
        for name in imported(tree)
        if name.startswith(("keras.src", "tensorflow.python"))
        or name in ("keras.src", "tensorflow.python")
        or (
            name.startswith(("keras.", "tensorflow.", "tf."))
            and any(part.startswith("_") for part in name.split("."))
        )
    ]
    reached = [
        f"{owner}.{name}"
        for name, owner in attributes(tree)
        if f"{owner}.{name}".startswith(("keras.src", "tf.python"))
        or name == "__internal__"
    ]
    assert private + reached == []


@pytest.mark.parametrize("path", OTHERS, ids=name_of)
def test_private_attributes_are_used_in_the_doorways_only(path):
    private = [
        f"{owner}.{name}"
        for name, owner in attributes(ast.parse(path.read_text()))
        if is_private(name) and owner not in ("self", "cls")
    ]
    assert private == []


@pytest.mark.parametrize("path", OTHERS, ids=name_of)
def test_private_names_that_are_inherited_are_known(path):
    tree = ast.parse(path.read_text())
    own = {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
    }
    own |= {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
    }
    inherited = {
        name
        for name, owner in attributes(tree)
        if is_private(name) and owner in ("self", "cls") and name not in own
    }
    assert inherited == INHERITED.get(name_of(path), set())


@pytest.mark.parametrize("path", OTHERS, ids=name_of)
def test_frames_are_looked_at_in_the_doorways_only(path):
    frames = {"_getframe", "currentframe", "stack", "f_back", "f_locals"}
    innocent = {"np.stack", "tf.stack"}
    found = attributes(ast.parse(path.read_text()))
    names = [f"{owner}.{name}" for name, owner in found if name in frames]
    assert [name for name in names if name not in innocent] == []


@pytest.mark.parametrize("path", DOORWAYS, ids=name_of)
def test_every_private_name_of_a_doorway_has_a_contract(path):
    tree = ast.parse(path.read_text())
    names = {name for name, _ in attributes(tree) if name.startswith("_")}
    names |= {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and node.value.isidentifier()
        and node.value.startswith("_")
    }
    # Python's own, with nothing upstream to move.
    names -= {"__self__", "__name__", "__qualname__", "__code__", "_getframe"}
    private = [
        name
        for name in imported(tree)
        if name.startswith(("keras.src.", "tensorflow.python."))
    ]
    names |= {name.rpartition(".")[2] for name in private}
    # What is looked up on a private module, imported under a private name.
    modules = {f"_{name.rpartition('.')[2]}" for name in private}
    names |= {name for name, owner in attributes(tree) if owner in modules}
    assert names
    # A contract may name the owner too, as in `context.global_seed`.
    known = {part for name in _checked for part in name.split(".")}
    assert names - known == set()
    assert set.union(*INHERITED.values()) <= known
