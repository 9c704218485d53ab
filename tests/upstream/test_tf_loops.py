"""Which private name of TensorFlow moved, of those that `tf_loops` uses."""

import tensorflow as tf
from contracts import contract

from tfdp.upstream.tensorflow import tf_loops


@contract(
    "control_flow_v2_func_graphs.ControlFlowFuncGraph",
    "capture_call_time_value",
    serves="steps_per_execution fails on several workers",
)
def test_a_function_in_a_loop_captures_what_is_known_when_it_is_called():
    """As the number of a collective is."""
    tf_loops.let_collectives_in()
    calls = []

    def number():
        calls.append(1)
        return tf.constant(10 ** len(calls))

    @tf.function
    def numbered():
        graph = tf.compat.v1.get_default_graph()
        return graph.capture_call_time_value(number, tf.TensorSpec((), "int32"))

    @tf.function
    def several(times):
        total = tf.constant(0)
        for step in tf.range(times):
            if step < 2:
                total += numbered()
        return total

    assert several(tf.constant(3)).numpy() == 20
    assert several(tf.constant(3)).numpy() == 200


def test_it_is_done_once():
    tf_loops.let_collectives_in()
    graph_of_branch = tf_loops._graph_of_branch.find()
    before = graph_of_branch.capture_call_time_value
    tf_loops.let_collectives_in()
    assert graph_of_branch.capture_call_time_value is before
