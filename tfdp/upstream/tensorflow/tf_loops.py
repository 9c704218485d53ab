"""Functions that meet other workers, called in loops and conditions.

A doorway to private names of TensorFlow, each of which has a contract in
`tests/upstream/test_tf_loops.py`.
"""

from typing import Any

from tfdp.upstream.private import Member, Name

_REPAIRED = "steps_per_execution fails on several workers"
_graph_of_branch = Name(
    "tensorflow.python.ops.control_flow_v2_func_graphs.ControlFlowFuncGraph",
    serves=_REPAIRED,
)
_capture = Member("capture_call_time_value", serves=_REPAIRED)


def let_collectives_in() -> None:
    """Has collectives of functions called in loops and conditions be numbered.

    Workers number a collective when the step that it is a part of is called:
    its graph captures what is a number only then. The graph of a loop or a
    condition hands nothing of the kind on to the step around it, which then
    fails. With this it has the step capture it.
    """
    graph_of_branch = _graph_of_branch.find()
    _capture.check(graph_of_branch)
    if _capture.name not in vars(graph_of_branch):
        _capture.replace(graph_of_branch, _captured_around)


def _captured_around(graph: Any, *arguments: Any, **named: Any) -> Any:
    while getattr(graph, "is_control_flow_graph", False):
        graph = graph.outer_graph
    with graph.as_default():
        return _capture.of(graph)(*arguments, **named)
