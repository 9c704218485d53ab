"""Who a worker is, and how it proves so to another without telling the secret.

Each side sends a number drawn for this conversation, and gets back a code that
only who knows the key can compute from it (HMAC-SHA256). The key is made of the
job's secret; where there is none, of what names the job. Then it tells one job
from another, but keeps out nobody who knows the cluster.
"""

import dataclasses
import hashlib
import hmac
import json
import secrets

from tfdp.cluster import environment
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
        secret = environment.job_secret()
        known = {j: cluster.jobs.get(j, ()) for j in _TRAINING_JOBS}
        what = secret or [known, environment.step_name()]
        text = json.dumps(["secret" if secret else "names", what])
        key = hashlib.sha256(text.encode()).digest()
        return cls(cluster.index, cluster.num_workers, key)

    def proof(self, *claims: object) -> str:
        """Returns the code for some claims, as 64 digits."""
        text = json.dumps([self.count, *claims])
        return hmac.new(self.key, text.encode(), "sha256").hexdigest()

    def proves(self, code: str, *claims: object) -> bool:
        """Whether a code is the one for these claims."""
        return hmac.compare_digest(code.encode(), self.proof(*claims).encode())


def drawn_number() -> str:
    """Returns a number that was never used before, as 32 digits.

    Example:

    >>> len(drawn_number())
    32
    """
    return secrets.token_hex(16)
