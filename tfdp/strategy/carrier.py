"""What large gradients travel by, agreed by all workers at the start."""

import functools
import warnings
from typing import Any, NamedTuple

import tensorflow as tf

from tfdp.agreement import gather_objects
from tfdp.machine import ports
from tfdp.settings import start_timeout
from tfdp.transport import Communication, Courier, obstacle
from tfdp.upstream.tensorflow import tf_runtime

# What keeps workers from each other, a firewall perhaps, stays.
_MEETING_SECONDS = 20.0


class Carrier(NamedTuple):
    """What large gradients travel by, other than TensorFlow.

    Attributes:
        courier: This worker's, who takes them one after the other.
        turn: A variable that changes when they leave: what is done to it
            TensorFlow orders, so that they leave alike on all workers.
    """

    courier: Courier
    turn: tf.Variable


def agreed_carrier(
    strategy: Any, communication: Communication
) -> Carrier | None:
    """Returns what large gradients travel by; a collective.

    Args:
        strategy: A `MultiWorkerMirroredStrategy` of tfdp's.
        communication: What this worker was told.

    Returns:
        `None` for TensorFlow's own collectives.

    Raises:
        RuntimeError: On every worker, if they were told different things, or
            one cannot do what all were told.
    """
    if strategy.num_workers == 1:
        return None
    courier, address, problem = None, None, ""
    if communication != "tensorflow":
        problem = _obstacle(strategy) or obstacle()
        courier = None if problem else _courier(strategy)
    if courier is not None:
        try:
            address = courier.address()
        except ConnectionError as error:
            problem = str(error)
    found = gather_objects(strategy, [communication, problem, address])
    _check_same([told for told, _, _ in found])
    problems = [problem for _, problem, _ in found]
    if courier is not None and not any(problems):
        try:
            courier.connect([address for _, _, address in found])
        except ConnectionError as error:
            problem = str(error)
        problems = gather_objects(strategy, problem)
        if not any(problems):
            courier.watch = functools.partial(
                tf_runtime.check_collectives, strategy.worker_index
            )
            with tf.device("CPU:0"):
                turn = tf.Variable(0, trainable=False, dtype=tf.int64)
            return Carrier(courier, turn)
    if courier is not None:
        courier.close()
    _tell(strategy, communication, problems)
    return None


def _obstacle(strategy: Any) -> str:
    if strategy.cluster is None:
        return "the address of a worker is known to its `cluster_resolver` only"
    if any("GPU" in name for name in strategy.extended.worker_devices):
        return "replicas are on GPUs"
    return ""


def _courier(strategy: Any) -> Courier:
    host, _ = ports.split_address(strategy.cluster.address)
    return Courier(
        strategy.worker_index,
        strategy.num_workers,
        host,
        seconds=min(_MEETING_SECONDS, start_timeout()),
    )


def _check_same(told: list[str]) -> None:
    if len(set(told)) > 1:
        raise RuntimeError(
            "Gradients must travel alike on all workers. Received: "
            f"communication={told}, by worker. Give all the same "
            "`communication`, and the same TFDP_COMMUNICATION."
        )


def _tell(strategy: Any, communication: str, problems: list[str]) -> None:
    """Says what keeps workers from gloo, if anybody expects it."""
    said = "; ".join(
        f"{problem} (worker {worker})"
        for worker, problem in enumerate(problems)
        if problem
    )
    if communication == "gloo":
        raise RuntimeError(
            "Gradients can travel by gloo between workers on CPUs that all "
            f"have it and reach each other. Received: communication='gloo'; "
            f"{said}. Install it everywhere by pip install 'tfdp[gloo]', let "
            "workers reach each other on all ports, or leave gradients to "
            "TensorFlow: communication='tensorflow'."
        )
    if len(set(problems)) > 1 and strategy.is_chief:
        warnings.warn(
            "Gradients travel by gloo if all workers have it and reach each "
            f"other. Received: {said}. They travel by TensorFlow, which takes "
            "longer. Mend that, or set TFDP_COMMUNICATION=tensorflow to be "
            "without this warning.",
            stacklevel=4,
        )
