"""What gradients travel by, agreed by all workers as a strategy is made."""

import contextlib
import functools
import warnings
from typing import Any, NamedTuple

import tensorflow as tf

from tfdp.agreement import Workers, gather_objects
from tfdp.cluster import Cluster
from tfdp.machine import ports
from tfdp.settings import start_timeout
from tfdp.transport import Communication, Courier, obstacle
from tfdp.upstream.tensorflow import tf_runtime

# What keeps them from each other, a firewall perhaps, does so for ever.
_MEETING_SECONDS = 20.0
_INSTALL = "pip install 'tfdp[gloo]'"


class Carrier(NamedTuple):
    """By which gradients travel that TensorFlow does not carry.

    Attributes:
        courier: This worker's.
        turn: Whose uses are in the same order on all workers: those of a
            graph, as TensorFlow orders what is done to a variable.
    """

    courier: Courier
    turn: tf.Variable


def agreed_carrier(
    strategy: Workers, communication: Communication
) -> Carrier | None:
    """Returns what large gradients travel by; a collective.

    Args:
        strategy: The strategy of the workers, which has its `cluster`.
        communication: What this worker was told.

    Returns:
        `None` for TensorFlow's own collectives.

    Raises:
        RuntimeError: On every worker, if they were told different things, or
            one cannot do what all were told.
    """
    if strategy.num_workers == 1:
        return None
    courier, problem = None, ""
    if communication != "tensorflow":
        problem = _obstacle(strategy) or obstacle()
        if not problem:
            courier = _started(strategy)
    with contextlib.ExitStack() as stack:
        if courier is not None:
            stack.callback(courier.close)
        address = None
        if courier is not None:
            try:
                address = courier.address()
            except ConnectionError as error:
                problem = str(error)
        found = gather_objects(strategy, [communication, problem, address])
        _check_same([told for told, _, _ in found])
        if communication == "tensorflow" or _tell(
            strategy, communication, [problem for _, problem, _ in found]
        ):
            return None
        assert courier is not None
        problem = ""
        try:
            courier.connect([address for _, _, address in found])
        except ConnectionError as error:
            problem = str(error)
        if _tell(strategy, communication, gather_objects(strategy, problem)):
            return None
        stack.pop_all()
    courier.watch = functools.partial(
        tf_runtime.check_collectives, strategy.worker_index
    )
    with tf.device("CPU:0"):
        return Carrier(courier, tf.Variable(0, trainable=False, dtype=tf.int64))


def _obstacle(strategy: Any) -> str:
    if any("GPU" in name for name in strategy.extended.worker_devices):
        return "its replicas are on GPUs"
    if strategy.cluster is None:
        return "its address is not known, as for a `cluster_resolver`"
    return ""


def _started(strategy: Any) -> Courier:
    cluster: Cluster = strategy.cluster
    host, _ = ports.split_address(cluster.address)
    return Courier(
        strategy.worker_index,
        strategy.num_workers,
        host,
        seconds=min(_MEETING_SECONDS, start_timeout()),
    )


def _check_same(told: list[str]) -> None:
    if len(set(told)) > 1:
        raise RuntimeError(
            "Gradients must travel by the same on all workers. Received: "
            f"communication={told}, by worker. Give all the same "
            "`communication` and the same `TFDP_COMMUNICATION`."
        )


def _tell(
    strategy: Any, communication: Communication, problems: list[str]
) -> bool:
    """Says what keeps workers from gloo, and whether anything does."""
    said = "; ".join(
        f"worker {worker}: {problem}"
        for worker, problem in enumerate(problems)
        if problem
    )
    if said and communication == "gloo":
        raise RuntimeError(
            "All workers must be able to send gradients by gloo, where it is "
            f"asked for. Received: communication='gloo', and {said}. Mend "
            f"that, by {_INSTALL} where it is missing, or leave it to "
            "TensorFlow: communication='tensorflow'."
        )
    is_missing = not all(problems) or any(" " not in each for each in problems)
    if said and is_missing and strategy.is_chief and len(set(problems)) > 1:
        warnings.warn(
            "Gradients travel by gloo where all workers have it. Received: "
            f"{said}. They travel by TensorFlow, which takes longer; set "
            "TFDP_COMMUNICATION=tensorflow to be without this warning.",
            stacklevel=5,
        )
    return bool(said)
