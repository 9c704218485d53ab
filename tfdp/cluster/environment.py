"""Where the environment says who the workers are.

Environment variables read, here and in `tf_config`, and nowhere else in tfdp
(`tfdp.settings` reads those that name nobody):

- `TF_CONFIG`: JSON with `cluster` (job name to list of `host:port`) and `task`
  (`type` and `index`). With neither, such as `{}`: a job of one process.
- Those that Slurm's `srun` sets, and `CUDA_VISIBLE_DEVICES`, where `TF_CONFIG`
  is unset or empty; see `tfdp.cluster.slurm`. Without them, too: a job of one
  process.
- `TFDP_PORT`: the port of each node's first worker under Slurm. Unset: chosen
  by the numbers of job and step.
- `TFDP_JOB_SECRET`: any text, the same for all workers of a job and known to
  nobody else, by which they know each other. `tfdp launch` draws one where it
  starts all of them.

Another scheduler is one more module beside `slurm`, asked here.
"""

import os

from tfdp.cluster import slurm
from tfdp.cluster.tf_config import (
    Place,
    names_nobody,
    parsed,
    tf_config_text,
)


def place() -> Place | None:
    """Returns who the workers are, from `TF_CONFIG` or else from Slurm.

    Returns:
        What it says, or `None` for a job of one process.

    Raises:
        ValueError: If `TF_CONFIG` is malformed, or what Slurm tells is
            contradictory.

    Example:

    >>> print(place())
    None
    """
    text = tf_config_text()
    if text:
        return None if names_nobody(text) else parsed(text)
    step = slurm.step_of(os.environ)
    if step is None:
        return None
    jobs = {"worker": step.addresses}
    return Place(jobs, "worker", step.rank, {}, step.visible_gpus)


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
        ValueError: If what Slurm tells is contradictory.

    Example:

    >>> step_name()
    ''
    """
    if tf_config_text() or not slurm.step_of(os.environ):
        return ""
    return ".".join(
        os.environ.get(name, "?") for name in ("SLURM_JOB_ID", "SLURM_STEP_ID")
    )


def source() -> str:
    """Says where `place` finds what it returns.

    Returns:
        The name of the variable, or of the step, or what is missing.

    Raises:
        ValueError: If what Slurm tells is contradictory.

    Example:

    >>> source()
    'neither TF_CONFIG nor srun'
    """
    if tf_config_text():
        return "TF_CONFIG"
    if slurm.step_of(os.environ):
        return f"Slurm, step {step_name()}"
    waiting = slurm.waiting_tasks(os.environ)
    if waiting > 1:
        return (
            f"a Slurm job of {waiting} tasks, but not in srun, which starts "
            "them all"
        )
    return "neither TF_CONFIG nor srun"
