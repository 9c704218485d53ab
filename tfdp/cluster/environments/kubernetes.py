"""A pod of an Indexed Job of Kubernetes, alone or in a JobSet.

Kubernetes itself sets `JOB_COMPLETION_INDEX` in every pod of an Indexed Job,
also of those whose pods have nothing to do with each other; and it tells none
of them how many there are. So `TFDP_WORKERS`, the number of workers, has to be
set in the manifest. The rest are names, which the manifest hands on from the
labels of the pod (examples/kubernetes/):

- Of an Indexed Job `JOB_NAME`, and `TFDP_SUBDOMAIN`, the headless service. Pods
  are `<job>-<index>.<subdomain>`
  (https://kubernetes.io/docs/tasks/job/job-with-pod-to-pod-communication/).
- Of a JobSet `JOBSET_NAME`, `REPLICATED_JOB_NAME`, `JOB_INDEX`, and
  `TFDP_SUBDOMAIN` where it is not the name of the JobSet. Pods are
  `<jobset>-<replicatedjob>-<jobindex>-<podindex>.<subdomain>` (the type
  `Network` in api/jobset/v1alpha2/jobset_types.go of
  https://github.com/kubernetes-sigs/jobset). Where there are several jobs,
  `REPLICATED_JOB_REPLICAS` is their number; workers are counted job by job.

Every worker listens on port 2222 of its pod, or on `TFDP_PORT`.
"""

from collections.abc import Mapping

from tfdp.cluster.environments.claim import Claim
from tfdp.cluster.environments.variables import DEFAULT_PORT, port, whole
from tfdp.cluster.tf_config import Place

_MOST_WORKERS = 65536


def claim(variables: Mapping[str, str]) -> Claim | None:
    """Returns what the variables of a pod say.

    Args:
        variables: Environment variables of this process.

    Returns:
        What they say, or `None` where `JOB_COMPLETION_INDEX` or `TFDP_WORKERS`
        is unset, or there is one worker.

    Raises:
        ValueError: If one of them is malformed or missing, or they contradict
            each other.

    Example:

    >>> told = {
    ...     "JOB_COMPLETION_INDEX": "1",
    ...     "TFDP_WORKERS": "2",
    ...     "JOB_NAME": "train",
    ...     "TFDP_SUBDOMAIN": "workers",
    ... }
    >>> claim(told).place.jobs
    {'worker': ('train-0.workers:2222', 'train-1.workers:2222')}
    """
    if not is_indexed(variables) or not variables.get("TFDP_WORKERS"):
        return None
    size = whole(variables, "TFDP_WORKERS")
    if size < 2:
        return None
    replicas, job = 1, 0
    if variables.get("JOBSET_NAME"):
        source = "the JobSet's variables"
        subdomain = variables.get("TFDP_SUBDOMAIN") or variables["JOBSET_NAME"]
        job = whole(variables, "JOB_INDEX")
        if variables.get("REPLICATED_JOB_REPLICAS"):
            replicas = whole(variables, "REPLICATED_JOB_REPLICAS")
        head = f"{_text(variables, 'JOBSET_NAME')}-"
        head += f"{_text(variables, 'REPLICATED_JOB_NAME')}-"
        heads = [f"{head}{index}" for index in range(min(replicas, size))]
    else:
        source = "the Indexed Job's variables"
        subdomain = _text(variables, "TFDP_SUBDOMAIN")
        heads = [_text(variables, "JOB_NAME")]
    pod = whole(variables, "JOB_COMPLETION_INDEX")
    pods = size // max(replicas, 1)
    if (
        size > _MOST_WORKERS
        or pods * replicas != size
        or not (job < replicas and pod < pods)
    ):
        raise ValueError(
            "TFDP_WORKERS must be the number of all pods of the job. Received: "
            f"TFDP_WORKERS={size} with {replicas} job(s), in pod {pod} of job "
            f"{job}. Set it to `completions`, times `replicas` in a JobSet."
        )
    number = port(variables, ["TFDP_PORT"], default=DEFAULT_PORT)
    addresses = tuple(
        f"{head}-{index}.{subdomain}:{number}"
        for head in heads
        for index in range(pods)
    )
    rank = job * pods + pod
    place = Place({"worker": addresses}, "worker", rank, {})
    return Claim(source, rank, size, place)


def is_indexed(variables: Mapping[str, str]) -> bool:
    """Whether this is a pod of an Indexed Job, of workers or not.

    Args:
        variables: Environment variables of this process.

    Example:

    >>> is_indexed({"JOB_COMPLETION_INDEX": "0"})
    True
    """
    return bool(variables.get("JOB_COMPLETION_INDEX"))


def _text(variables: Mapping[str, str], name: str) -> str:
    text = variables.get(name, "").strip()
    if not text:
        raise ValueError(
            f"{name} must be set beside TFDP_WORKERS. Received: "
            f"{name}={text!r}. Hand it on from the labels of the pod, as the "
            "manifests in examples/kubernetes/ do, or set TF_CONFIG yourself."
        )
    return text
