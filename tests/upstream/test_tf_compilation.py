"""Which private name of TensorFlow moved, that `tf_compilation` uses."""

import tensorflow as tf
from contracts import contract

from tfdp.upstream.tensorflow import tf_compilation


@contract(
    "kernels.get_all_registered_kernels",
    serves="a layer that XLA cannot compile is not named",
)
def test_xla_tells_which_operations_it_has_kernels_for():
    known = tf_compilation.compilable_types()
    assert {"MatMul", "StatelessWhile", "ReadVariableOp", "Conv2D"} <= known
    assert not {"EagerPyFunc", "LookupTableFindV2", "StringLength"} & known


def test_what_is_inside_of_functions_and_loops_is_found():
    variable = tf.Variable(1.0)

    @tf.function
    def inner(x):
        same = tf.numpy_function(lambda each: each, [x], tf.float32)
        return tf.ensure_shape(same, [])

    @tf.function
    def outer(x):
        for _ in tf.range(tf.cast(x, tf.int32)):
            x += inner(x) + variable
        return tf.sin(x)

    function = outer.get_concrete_function(tf.constant(1.0))
    found = list(tf_compilation.not_compilable(function))
    assert {kind for kind, _ in found} == {"PyFunc"}

    @tf.function
    def sound(x):
        for _ in tf.range(tf.cast(x, tf.int32)):
            x = tf.sin(x) * variable
        return x

    function = sound.get_concrete_function(tf.constant(1.0))
    assert list(tf_compilation.not_compilable(function)) == []
