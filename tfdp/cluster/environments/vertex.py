"""A replica of a custom job of Vertex AI.

`CLUSTER_SPEC`, as
https://cloud.google.com/vertex-ai/docs/training/distributed-training#cluster-variables
describes it: the first worker pool has the chief, the second workers, the third
parameter servers or reducers, the fourth evaluators. Vertex AI also sets
`TF_CONFIG` for several replicas, which counts before this.
"""

import json
from collections.abc import Mapping
from typing import Any

from tfdp.cluster.environments.claim import Claim
from tfdp.cluster.tf_config import Place
from tfdp.machine import ports

_JOBS = {
    "workerpool0": "chief",
    "workerpool1": "worker",
    "workerpool3": "evaluator",
}


def claim(variables: Mapping[str, str]) -> Claim | None:
    """Returns what `CLUSTER_SPEC` says.

    Args:
        variables: Environment variables of this process.

    Returns:
        What it says, or `None` where it is unset, or there is one replica.

    Raises:
        ValueError: If it is malformed, or has a pool that cannot train.

    Example:

    >>> told = '''{"cluster": {"workerpool0": ["a:1"], "workerpool1": ["b:1"]},
    ...            "task": {"type": "workerpool1", "index": 0}}'''
    >>> claim({"CLUSTER_SPEC": told}).place.task_type
    'worker'
    """
    text = variables.get("CLUSTER_SPEC", "").strip()
    if not text:
        return None
    try:
        spec = json.loads(text)
    except (ValueError, RecursionError):
        spec = None
    cluster, task = _member(spec, "cluster"), _member(spec, "task")
    kind, index = task.get("type"), task.get("index", 0)
    if isinstance(index, str) and ports.is_whole(index):
        index = int(index)
    if (
        not all(isinstance(pool, list) for pool in cluster.values())
        or not isinstance(index, int)
        or kind not in cluster
        or not 0 <= index < len(cluster[kind])
    ):
        raise ValueError(
            "CLUSTER_SPEC must be JSON with `cluster`, lists of addresses by "
            "worker pool, and `task`, a place in one of them. Received: "
            f"CLUSTER_SPEC={text[:200]!r}. Correct it, or set TF_CONFIG "
            "yourself."
        )
    unknown = sorted(pool for pool in cluster.keys() - _JOBS if cluster[pool])
    if unknown:
        raise ValueError(
            "Data-parallel training has no parameter servers and no reducers. "
            f"Received: CLUSTER_SPEC with {', '.join(unknown)}. Leave the "
            "third worker pool empty; workers are in the second."
        )
    jobs = {
        job: tuple(cluster[pool])
        for pool, job in _JOBS.items()
        if cluster.get(pool)
    }
    size = sum(len(jobs.get(job, ())) for job in ("chief", "worker"))
    if size < 2 and _JOBS[kind] != "evaluator":
        return None
    first = len(jobs.get("chief", ())) if _JOBS[kind] == "worker" else 0
    place = Place(jobs, _JOBS[kind], index, {})
    return Claim("CLUSTER_SPEC", first + index, size, place)


def _member(spec: Any, name: str) -> dict[str, Any]:
    value = spec.get(name) if isinstance(spec, dict) else None
    return value if isinstance(value, dict) else {}
