"""Which private name of TensorFlow moved, of those that `tf_functions` uses."""

import numpy as np
import pytest
import tensorflow as tf
from contracts import contract
from tensorflow.python.autograph.core import ag_ctx

from tfdp.upstream.tensorflow import tf_functions


@contract(
    "tf.types.experimental.PolymorphicFunction",
    serves="tfdp's strategies take a `tf.function` for a plain function",
)
def test_tf_function_is_an_instance_of_its_class():
    made = tf.function(lambda: 1)
    assert tf_functions.is_tf_function(made)
    assert not tf_functions.is_tf_function(lambda: 1)
    assert not tf_functions.is_tf_function(made.get_concrete_function())


@contract(
    "_clone",
    "decorator.make_decorator",
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
    clone = tf_functions.wrapped_inside(
        function, lambda inside: lambda x: x + 2
    )
    assert clone is not function
    # `Strategy.run` converts what it is given.
    assert tf_functions.is_tf_function(
        tf_functions.converted_by_autograph(clone)
    )
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
    "autograph.tf_convert",
    "autograph.control_status_ctx",
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
        return tf_functions.converted_by_autograph(sign)(x)

    plain = tf.distribute.get_strategy()

    @tf.function
    def run(x):
        return plain.run(sign, args=(x,))

    for function in (converted, run):
        assert [int(function(tf.constant(v))) for v in (2.0, -2.0)] == [1, -1]

    @tf.autograph.experimental.do_not_convert
    def not_converted(x):
        return tf_functions.converted_by_autograph(sign)(x)

    with pytest.raises(tf.errors.OperatorNotAllowedInGraphError):
        tf.function(not_converted)(tf.constant(2.0))


@contract(
    "ag_ctx",
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
    "tf.__internal__.FuncGraph",
    serves="a step cannot be asked for its variables before it runs",
)
def test_what_is_never_executed_makes_its_variables_all_the_same():
    given = tf.Variable(1.0)
    with tf_functions.never_executed():
        made = tf.Variable(lambda: tf.ones((2,)))
        given.assign_add(made[0])
    assert float(given) == 1
    assert made.numpy().tolist() == [1, 1]


@contract(
    "the variable `preferred_dtype` of tensor_conversion_registry.convert",
    serves="a loss in half precision cannot be divided by the replicas",
)
def test_a_number_that_becomes_a_tensor_knows_the_wanted_type():
    class Number:
        def __tf_tensor__(self, dtype=None, name=None):
            return tf.constant(2, dtype or tf_functions.dtype_hint())

    half = tf.constant(1, tf.bfloat16) / Number()
    assert half.dtype == tf.bfloat16
    assert float(half) == 0.5


@contract(
    "FuncGraph.create_op",
    "Operation.op_def",
    serves="a logged loss is divided by the replicas",
)
def test_a_tensor_is_computed_again_with_another_in_its_place():
    @tf.function
    def both(x, y):
        z = tf.exp(x * 2.0) + y
        again = tf_functions.computed_again(z, {x.ref(): y}, 10)
        assert not tf_functions.is_eager(z)
        assert tf_functions.computed_again(y, {x.ref(): y}, 10) is y
        assert tf_functions.computed_again(z, {x.ref(): y}, 1) is None
        assert tf_functions.scalars_lead([x], z)
        assert not tf_functions.scalars_lead([x], tf.reduce_sum([x]) + y)
        return again

    np.testing.assert_allclose(
        both(tf.constant(1.0), tf.constant(3.0)), np.exp(6.0) + 3, rtol=1e-6
    )
    assert tf_functions.is_eager(tf.constant(1.0))


@pytest.mark.parametrize(
    ("draw", "expected"),
    [
        (lambda x: x + tf.random.normal([2]), True),
        (lambda x: tf.random.stateless_uniform([2], (1, 2)) * x, True),
        (lambda x: tf.nn.dropout(x, 0.5), True),
        (
            lambda x: tf.while_loop(lambda y: y[0] < 0, tf.random.shuffle, [x]),
            1,
        ),
        (tf.square, False),
    ],
)
def test_what_draws_random_numbers_is_told_by_its_operations(draw, expected):
    traced = tf.function(draw).get_concrete_function(tf.ones([2]))
    assert tf_functions.is_random(traced) == expected


@contract("_get_function", serves="memory is not estimated")
def test_the_graph_of_what_an_operation_calls_is_found():
    @tf.function
    def inner(x):
        return tf.sin(x)

    @tf.function(autograph=False)
    def outer(x):
        x = tf.cond(x > 0, lambda: tf.cos(inner(x)), lambda: tf.tan(x))
        _, x = tf.while_loop(
            lambda i, x: i < 3, lambda i, x: (i + 1, tf.exp(x)), (0, x)
        )
        return tf.switch_case(
            tf.cast(x, tf.int32),
            [lambda: tf.sinh(x), lambda: tf.cosh(inner(x))],
        )

    def kinds(graph):
        return {op.type for op in graph.get_operations()}

    graph = outer.get_concrete_function(tf.TensorSpec(())).graph
    found = {}
    for op in graph.get_operations():
        kind = op.type.removeprefix("Stateless")
        if kind in ("If", "While", "Case"):
            found[kind] = tf_functions.bodies(op)
    then, otherwise = found["If"]
    assert "Cos" in kinds(then)
    assert "Tan" in kinds(otherwise)
    (call,) = (op for op in then.get_operations() if "Partitioned" in op.type)
    assert "Sin" in kinds(tf_functions.called(call))
    assert "Less" in kinds(found["While"][0])
    assert "Exp" in kinds(found["While"][1])
    assert "Sinh" in kinds(found["Case"][0])
    assert "Cosh" in kinds(found["Case"][1])
