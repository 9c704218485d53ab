"""Which private name of Keras moved, of those that `keras_optimizers` uses."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf
from contracts import contract

import tfdp
from tfdp.upstream.keras import keras_optimizers

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


@pytest.fixture
def variables():
    return [
        keras.Variable(np.ones((2, 2), "float32"), name="kernel"),
        keras.Variable(np.ones((2,), "float32"), name="bias"),
    ]


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
    copy = keras_optimizers.copy_that_takes_reduced_gradients
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
    copies = (
        keras_optimizers.copy_that_takes_reduced_gradients,
        keras_optimizers.copy_of,
    )
    for given in (schedule, rate):
        for copy in copies:
            copied = copy(keras.optimizers.SGD(given))
            assert copied._learning_rate is given
            assert keras_optimizers.given_rate(copied) is given
    assert keras_optimizers.given_rate(keras.optimizers.SGD(0.25)) == 0.25


@contract(
    "_exclude_from_weight_decay",
    serves="the inner optimizer decays weights that the user has excluded",
)
def test_exclusions_from_weight_decay_are_attributes(variables):
    kernel, bias = variables
    by_variable = keras.optimizers.AdamW(0.1)
    by_variable.exclude_from_weight_decay(var_list=[kernel])
    by_name = keras.optimizers.AdamW(0.1)
    by_name.exclude_from_weight_decay(var_names=["bias"])
    for optimizer in (by_variable, by_name):
        held = [n for n in vars(optimizer) if n[:8] == "_exclude"]
        assert "_exclude_from_weight_decay" in held
        assert all(n.startswith("_exclude_from_weight_decay") for n in held)
    copy = keras_optimizers.copy_that_takes_reduced_gradients
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
    # Since Keras 3.16 not before.
    optimizer.build(variables)
    decays = [keras_optimizers.decays(optimizer, v) for v in variables]
    assert decays == [True, False]
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
    with pytest.warns(UserWarning, match="Gradients do not exist"):
        ours = keras_optimizers.with_gradients(
            optimizer, [gradient, None], variables
        )
    assert list(ours[0]) == [gradient]
    assert [v.name for v in ours[1]] == ["kernel"]


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
    copy = keras_optimizers.copy_that_takes_reduced_gradients(make())
    weight = weight_after_two_updates(copy)
    assert float(weight.numpy()) == -1.0
    keras_optimizers.overwrite_with_average(copy)
    assert float(weight.numpy()) == -0.5


@contract(
    "an optimizer",
    "_model_variables_moving_average",
    serves="LocalSGD cannot tell averages of weights from momenta",
)
def test_averages_of_weights_are_told_from_momenta(variables):
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9, use_ema=True)
    optimizer.build(variables)
    averages = keras_optimizers.moving_averages(optimizer)
    assert [a.shape for a in averages] == [v.shape for v in variables]
    ids = {id(each) for each in averages}
    assert ids <= {id(each) for each in optimizer.variables}
    assert not ids & {id(each) for each in optimizer.momentums}
    assert keras_optimizers.moving_averages(keras.optimizers.SGD(0.1)) == []


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
    assert keras_optimizers.is_multi_optimizer(optimizer)
    assert optimizer._optimizer_map is given
    copy = keras_optimizers.copy_that_takes_reduced_gradients(optimizer)
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
    gradients, filled = keras_optimizers.with_missing_gradients(
        optimizer, gradients, both[1:]
    )
    assert gradients[0] is None
    assert [v.name for v in filled] == ["kernel", "bias", "more"]
    with pytest.warns(UserWarning, match="Gradients do not exist"):
        optimizer.apply(gradients, filled)
    assert [float(v.numpy().sum()) for v in both] == [4.0, 0.0, 0.0]


@contract(
    "_clip_gradients",
    serves="ShardedState clips by the norm of what an owner has",
)
@pytest.mark.parametrize(
    ("clip", "expected"),
    [
        ({"global_clipnorm": 1.0}, (0.6, 0.8)),
        ({"clipnorm": 1.0}, (1.0, 1.0)),
        ({"clipvalue": 3.5}, (3.0, 3.5)),
        ({}, (3.0, 4.0)),
    ],
)
def test_gradients_are_clipped_in_one_place(clip, expected):
    optimizer = keras.optimizers.SGD(1.0, **clip)
    gradients = [tf.constant([3.0]), tf.constant([4.0])]
    clipped = keras_optimizers.clipped(optimizer, gradients)
    np.testing.assert_allclose(
        [float(each[0]) for each in clipped], expected, rtol=1e-6
    )
    # An update clips there, and nowhere else.
    optimizer._clip_gradients = lambda grads: [0 * g for g in grads]
    weights = [keras.Variable([1.0]), keras.Variable([1.0])]
    optimizer.apply(gradients, weights)
    for weight in weights:
        np.testing.assert_array_equal(weight.numpy(), [1.0])


@contract(
    "_variables",
    serves="the slots of owners are neither saved nor loaded",
)
def test_what_an_optimizer_holds_is_saved_and_loaded(variables):
    optimizer = keras.optimizers.SGD(0.5)
    optimizer.build(variables)
    other = keras.Variable([1.0, 2.0], trainable=False)
    keras_optimizers.hold(optimizer, [other])
    assert optimizer.variables[-1] is other
    store = {}
    optimizer.save_own_variables(store)
    np.testing.assert_array_equal(store["2"], [1.0, 2.0])
    store["2"] = np.array([3.0, 4.0], "float32")
    optimizer.load_own_variables(store)
    np.testing.assert_array_equal(other.numpy(), [3.0, 4.0])


@contract(
    "_path",
    serves="slots of owners have other names than those of plain Keras",
)
def test_a_stand_in_is_taken_for_a_variable(variables):
    kernel, _ = variables
    with keras.name_scope("layer"):
        kernel = keras.Variable(np.ones((2, 3), "float32"), name="kernel")
    kernel.constraint = keras.constraints.NonNeg()
    part = tf.Variable(tf.zeros((2, 3)))
    shared = keras_optimizers.stand_in(kernel, part)
    # Not a copy of it.
    assert shared.value is part
    empty = keras_optimizers.stand_in(kernel, None)
    for made in (shared, empty):
        assert made.path == kernel.path == "layer/kernel"
        assert made.name == "kernel"
        assert made.dtype == kernel.dtype
        assert tuple(made.shape) == (2, 3)
        assert made.constraint is kernel.constraint
        adam = keras.optimizers.Adam(name="adam")
        adam.build([made])
        assert adam.variables[-1].name == "layer_kernel_velocity"


@contract(
    "Optimizer.build",
    serves="slots of owners take memory before anybody owns them",
)
def test_an_optimizer_is_built_in_a_graph_that_never_runs(variables):
    optimizer = keras.optimizers.Adam()
    with tf.Graph().as_default():
        alike = [keras_optimizers.stand_in(v, None) for v in variables]
        optimizer.build(alike)
        for slot in optimizer.variables[2:]:
            assert slot.value.graph is tf.compat.v1.get_default_graph()
