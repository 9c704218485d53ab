"""Where the environment says who the workers are.

Environment variables read, here and in `tf_config`, and nowhere else in tfdp
(`tfdp.settings` reads those that name nobody):

- `TF_CONFIG`: JSON with `cluster` (job name to list of `host:port`) and `task`
  (`type` and `index`). With neither, such as `{}`: a job of one process.
- Where it is unset or empty, those that the modules of
  `tfdp.cluster.environments` name, in this order: of Slurm's `srun`, of pods of
  Kubernetes, of SageMaker, of Vertex AI, of Kubeflow's `TrainJob`, of
  `torchrun`, of MPI. Without them, too: a job of one process. See
  `tfdp.cluster.environments.claim.chosen` for several at once.
- `TFDP_PORT`: where tfdp chooses a port, the one to take instead: of each
  node's first worker under Slurm, of every worker in pods and containers, of
  the first worker's roll call elsewhere.
- `TFDP_JOB_SECRET`: any text, the same for all workers of a job and known to
  nobody else, by which they know each other. `tfdp launch` draws one where it
  starts all of them.

Another scheduler is one more module in `environments`, asked here.
"""

import os
import threading

from tfdp.cluster.environments import (
    kubernetes,
    mpi,
    sagemaker,
    slurm,
    torchrun,
    trainjob,
    vertex,
)
from tfdp.cluster.environments.claim import Claim, chosen
from tfdp.cluster.roll_call import Appointment, attend
from tfdp.cluster.tf_config import (
    Place,
    names_nobody,
    parsed,
    tf_config_text,
)
from tfdp.settings import start_timeout

_ASKED = (slurm, kubernetes, sagemaker, vertex, trainjob, torchrun, mpi)
# A process meets the others once; later calls get the same.
_met: dict[Appointment, Place] = {}
_meeting = threading.Lock()


def place() -> Place | None:
    """Returns who the workers are, from `TF_CONFIG` or else from the scheduler.

    Where that tells an address to meet at, this waits until all have met.

    Returns:
        What it says, or `None` for a job of one process.

    Raises:
        ValueError: If `TF_CONFIG` is malformed, or what schedulers tell is
            contradictory.
        RuntimeError: If this process may not meet the others, or cannot.
        TimeoutError: If some do not come in time.

    Example:

    >>> print(place())
    None
    """
    found = whereabouts()
    if not isinstance(found, Appointment):
        return found
    with _meeting:
        if found not in _met:
            seats = attend(found, secret=job_secret(), timeout=start_timeout())
            _met[found] = Place(
                {"worker": seats.addresses},
                "worker",
                seats.first_index,
                {},
                found.visible_gpus,
            )
        return _met[found]


def whereabouts() -> Place | Appointment | None:
    """Returns who the workers are, or where they meet; meets nobody.

    Returns:
        What the environment says, or `None` for a job of one process.

    Raises:
        ValueError: If `TF_CONFIG` is malformed, or what schedulers tell is
            contradictory.

    Example:

    >>> print(whereabouts())
    None
    """
    text = tf_config_text()
    if text:
        return None if names_nobody(text) else parsed(text)
    claim = _claim()
    if claim is None:
        return None
    if isinstance(claim.place, str):
        raise ValueError(
            "Workers that do not know each other's addresses must be told "
            f"where to meet. Received: {claim.source} of worker {claim.rank} "
            f"of {claim.size}, without {claim.place}. Set it for all of them "
            "(`mpirun -x MASTER_ADDR=HOST -x MASTER_PORT=PORT`), or start them "
            "by `tfdp launch --rendezvous HOST:PORT`; TF_CONFIG='{}' is a job "
            "of one process."
        )
    return claim.place


def job_secret() -> str:
    """Returns what only the workers of this job know; empty for nothing.

    Example:

    >>> job_secret()
    ''
    """
    return os.environ.get("TFDP_JOB_SECRET", "")


def step_name() -> str:
    """Returns the numbers of Slurm's job and step, where the cluster is theirs.

    Returns:
        Such as `"17.0"`; empty where Slurm does not say who the workers are.

    Raises:
        ValueError: If what schedulers tell is contradictory.

    Example:

    >>> step_name()
    ''
    """
    claim = None if tf_config_text() else _claim()
    is_slurm = claim is not None and claim == slurm.claim(os.environ)
    return slurm.step_name(os.environ) if is_slurm else ""


def source() -> str:
    """Says where `place` finds what it returns.

    Returns:
        The name of the variable, or of the scheduler, or what is missing.

    Raises:
        ValueError: If what schedulers tell is contradictory.

    Example:

    >>> source()
    'neither TF_CONFIG nor a scheduler that tfdp knows'
    """
    if tf_config_text():
        return "TF_CONFIG"
    claim = _claim()
    if claim is not None:
        return claim.source
    waiting = slurm.waiting_tasks(os.environ)
    if waiting > 1:
        return (
            f"a Slurm job of {waiting} tasks, but not in srun, which starts "
            "them all"
        )
    if kubernetes.is_indexed(os.environ):
        return (
            "a pod of an Indexed Job, but not TFDP_WORKERS, which says how "
            "many of its pods are workers"
        )
    return "neither TF_CONFIG nor a scheduler that tfdp knows"


def _claim() -> Claim | None:
    claims = (module.claim(os.environ) for module in _ASKED)
    return chosen([claim for claim in claims if claim is not None])
