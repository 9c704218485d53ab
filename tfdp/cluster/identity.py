"""Who a worker is, and how it proves so to another."""

import dataclasses

from tfdp.cluster import environment, proofs
from tfdp.cluster.cluster import Cluster

_TRAINING_JOBS = ("chief", "worker")


@dataclasses.dataclass(frozen=True)
class Identity:
    """A worker of a job of so many workers, and the key of the job.

    Args:
        index: Place among the workers.
        count: Number of workers.
        key: What all workers of the job know, and nobody else.

    Example:

    >>> worker = Identity(0, 2, b"key")
    >>> proof = worker.proof("answer", 0, 1, "12", "34")
    >>> worker.proves(proof, "answer", 0, 1, "12", "34")
    True
    """

    index: int
    count: int
    key: bytes = dataclasses.field(repr=False)

    @classmethod
    def of(cls, cluster: Cluster) -> "Identity":
        """Returns who this process is among the workers of a cluster.

        The key is made of `TFDP_JOB_SECRET`; where it is unset, of the
        addresses of the workers, and of Slurm's numbers of job and step.

        Args:
            cluster: Who the workers are; this process is one of them.
        """
        known = {j: cluster.jobs.get(j, ()) for j in _TRAINING_JOBS}
        names = [known, environment.step_name()]
        key = proofs.key_of(environment.job_secret(), names)
        return cls(cluster.index, cluster.num_workers, key)

    def proof(self, *claims: object) -> str:
        """Returns the code for some claims, as 64 digits."""
        return proofs.proof(self.key, self.count, *claims)

    def proves(self, code: str, *claims: object) -> bool:
        """Whether a code is the one for these claims."""
        return proofs.proves(code, self.key, self.count, *claims)
