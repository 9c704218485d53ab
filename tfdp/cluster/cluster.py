"""Who the workers of a job are, and which of them this process is."""

import collections
import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from tfdp.checks import checked_count
from tfdp.cluster import environment, tf_config
from tfdp.cluster.addresses import check_address
from tfdp.machine import listening, ports

# The jobs that train; TensorFlow numbers the chief before the workers.
_TRAINING_JOBS = ("chief", "worker")
_JOBS = (*_TRAINING_JOBS, "evaluator")


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The worker processes of a job and the place of this one among them.

    Args:
        jobs: Addresses (`"host:port"`) by job name: `"worker"`, and
            optionally `"chief"` and `"evaluator"`, as in `TF_CONFIG`.
        task_type: Job of this process.
        task_index: Place of this process in its job, from 0.
        extra: What else `TF_CONFIG` has, such as `"rpc_layer"`.
        visible_gpus: Which of the GPUs it sees this process should use, by
            index. Defaults to `None`, all of them.

    Raises:
        ValueError: If there is no training job, a job is unknown, an address
            is malformed or named twice, or this task is not in the cluster.
            Only an evaluator need not be listed, as in TensorFlow.

    Example:

    >>> cluster = Cluster({"worker": ("a:1", "b:1")}, "worker", 1)
    >>> cluster.num_workers, cluster.index, cluster.is_chief
    (2, 1, False)
    """

    jobs: Mapping[str, tuple[str, ...]]
    task_type: str
    task_index: int
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    visible_gpus: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        """Checks the addresses and that this task is one of them."""
        jobs = {name: tuple(addresses) for name, addresses in self.jobs.items()}
        object.__setattr__(self, "jobs", jobs)
        unknown = sorted(set(jobs) - set(_JOBS))
        if unknown:
            raise ValueError(
                f"A job of the cluster must be one of {', '.join(_JOBS)}. "
                f"Received: {', '.join(unknown)}. "
                f"{_way_out(unknown[0], jobs)}"
            )
        if not self.workers:
            raise ValueError(
                "The cluster must name at least one worker. Received: "
                f"cluster={jobs}. Example: TF_CONFIG='{tf_config.EXAMPLE}'"
            )
        for job in ("chief", "evaluator"):
            if len(jobs.get(job, ())) > 1:
                raise ValueError(
                    f"The cluster must have at most one {job}. Received: "
                    f"{job}={list(jobs[job])}. List the others as workers."
                )
        everyone = [a for addresses in jobs.values() for a in addresses]
        for address in everyone:
            check_address(address)
        counts = collections.Counter(everyone)
        twice = sorted(a for a, count in counts.items() if count > 1)
        if twice:
            raise ValueError(
                "Every address of the cluster must belong to one process. "
                f"Received twice: {', '.join(twice)}. Give each process a "
                "port of its own."
            )
        for gpu in self.visible_gpus or ():
            checked_count("visible_gpus", gpu, minimum=0, maximum=2**16)
        if not isinstance(self.task_index, int) or isinstance(
            self.task_index, bool
        ):
            raise ValueError(
                "The task must have an integer index. Received: "
                f"index={self.task_index!r}. "
                f"Example: TF_CONFIG='{tf_config.EXAMPLE}'"
            )
        if self._is_unlisted_evaluator and self.task_index >= 0:
            return
        if not isinstance(self.task_type, str) or self.task_type not in jobs:
            raise ValueError(
                "The task's type must be a job of the cluster. Received: "
                f"type={self.task_type!r}, cluster with "
                f"{', '.join(sorted(jobs))}. Add the job, or set the task's "
                "type to one of these."
            )
        count = len(jobs[self.task_type])
        if not 0 <= self.task_index < count:
            raise ValueError(
                "The task's index must be a place in its job's list. "
                f"Received: index={self.task_index}, with {count} "
                f"{self.task_type} address(es). Use an index from 0 to "
                f"{count - 1}, or add the missing address."
            )

    @classmethod
    def of(cls, addresses: Sequence[str], index: int) -> "Cluster":
        """Returns a cluster of workers only.

        Args:
            addresses: Address (`"host:port"`) of each worker.
            index: Place of this process among them, from 0.

        Returns:
            The cluster.

        Raises:
            ValueError: As the constructor does.

        Example:

        >>> Cluster.of(["a:1", "b:1"], 1).address
        'b:1'
        """
        return cls({"worker": tuple(addresses)}, "worker", index)

    @classmethod
    def from_environment(cls) -> "Cluster | None":
        """Reads the cluster from `TF_CONFIG`, or else from the scheduler.

        Where `TF_CONFIG` is unset or empty, those of
        `tfdp.cluster.environments` are asked: Slurm (in `srun` alone), pods of
        Kubernetes, SageMaker, Vertex AI, Kubeflow's `TrainJob`, `torchrun` and
        `mpirun`. Of the last three, workers do not know each other's
        addresses: they meet at the one that all know, once in a process.

        Returns:
            The cluster, or `None` for a job of one process: nothing is set, or
            `TF_CONFIG` names no cluster and no task, such as `{}`.

        Raises:
            ValueError: If `TF_CONFIG` is malformed, what a scheduler tells is
                contradictory, or two tell different things.
            RuntimeError: If this worker may not meet the others at the
                address that all know, or cannot listen there.
            TimeoutError: If they do not meet in time.
        """
        place = environment.place()
        return None if place is None else cls(*place)

    @classmethod
    def from_tf_config(cls, text: str) -> "Cluster":
        """Reads the cluster from the JSON text of a `TF_CONFIG`.

        Args:
            text: JSON object with `cluster` and `task`. Other keys are kept
                in `extra`.

        Returns:
            The cluster.

        Raises:
            ValueError: If the text is not such an object, or names an
                impossible cluster.
        """
        return cls(*tf_config.parsed(text))

    def to_tf_config(self) -> str:
        """Returns the JSON text of the `TF_CONFIG` of this process.

        Example:

        >>> print(Cluster.of(["a:1"], 0).to_tf_config())
        {"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 0}}
        """
        task = {"type": self.task_type, "index": self.task_index}
        return json.dumps({**self.extra, "cluster": self.jobs, "task": task})

    @property
    def workers(self) -> tuple[str, ...]:
        """Addresses of the processes that train; the chief is the first."""
        return tuple(
            a for job in _TRAINING_JOBS for a in self.jobs.get(job, ())
        )

    @property
    def num_workers(self) -> int:
        """Number of processes that train."""
        return len(self.workers)

    @property
    def address(self) -> str:
        """Address of this process; empty for an evaluator without one."""
        if self._is_unlisted_evaluator:
            return ""
        return self.jobs[self.task_type][self.task_index]

    @property
    def is_training(self) -> bool:
        """Whether this process is one of the workers, not an evaluator."""
        return self.task_type in _TRAINING_JOBS

    @property
    def index(self) -> int:
        """Place among the workers; that of an evaluator in its own job."""
        if not self.is_training:
            return self.task_index
        return self.workers.index(self.address)

    @property
    def is_chief(self) -> bool:
        """Whether this process is worker 0, which writes and prints."""
        return self.is_training and self.index == 0

    @property
    def hosts(self) -> dict[str, list[str]]:
        """Addresses of all processes by host, in the order of the jobs."""
        found: dict[str, list[str]] = {}
        for job in _JOBS:
            for address in self.jobs.get(job, ()):
                found.setdefault(address.rpartition(":")[0], []).append(address)
        return found

    @property
    def peers(self) -> dict[int, str]:
        """Addresses of the other workers, by their index."""
        own = self.address
        return {
            index: address
            for index, address in enumerate(self.workers)
            if address != own
        }

    @property
    def is_local(self) -> bool:
        """Whether all workers are at loopback addresses, of one machine."""
        return all(
            listening.is_loopback(ports.split_address(address)[0])
            for address in self.workers
        )

    def describe(self) -> str:
        """Returns who is where: one line per process, host by host.

        Example:

        >>> print(Cluster.of(["a:1", "a:2", "b:1"], 1).describe())
        3 workers on 2 hosts
        a
          worker 0  a:1  chief
          worker 1  a:2  this process
        b
          worker 2  b:1
        """
        workers = _counted(self.num_workers, "worker")
        hosts = _counted(
            len({w.rpartition(":")[0] for w in self.workers}), "host"
        )
        lines = [f"{workers} on {hosts}"]
        chief = self.workers[0]
        names = {
            address: (job, place)
            for job in _JOBS
            for place, address in enumerate(self.jobs.get(job, ()))
        }
        for host, addresses in self.hosts.items():
            lines.append(host)
            lines += [
                self._line(*names[a], address=a, is_chief=a == chief)
                for a in addresses
            ]
        if self._is_unlisted_evaluator:
            line = self._line(
                "evaluator", self.task_index, address="not listed"
            )
            lines.append(line.strip())
        return "\n".join(lines)

    def check_port(self) -> None:
        """Checks that this process can listen on its own port.

        TensorFlow's own failure comes later and does not name the port.

        Raises:
            RuntimeError: If another process holds the port, or listening on
                it is not permitted.
        """
        if self.address:
            listening.check_free(
                self.address, owner=f"{self.task_type} {self.task_index}"
            )

    @property
    def _is_unlisted_evaluator(self) -> bool:
        return self.task_type == "evaluator" and not self.jobs.get("evaluator")

    def _line(
        self, job: str, place: int, *, address: str, is_chief: bool = False
    ) -> str:
        remarks = ["chief"] if is_chief else []
        if (job, place) == (self.task_type, self.task_index):
            remarks.append("this process")
            if self.visible_gpus is not None:
                gpus = ", ".join(map(str, self.visible_gpus))
                remarks.append(f"of its GPUs {gpus}")
        return f"  {job} {place}  {address}  {', '.join(remarks)}".rstrip()


def _way_out(job: str, jobs: Mapping[str, tuple[str, ...]]) -> str:
    """What to do about a job that is none of those that train."""
    if job == "master":
        if jobs.get("chief"):
            return "There is a chief already; list the master as a worker."
        return "Call it chief, in the task's type too: it is the same."
    if not jobs[job]:
        return f"It has no address; leave {job} out."
    return (
        "Data-parallel training has no parameter servers; list every process "
        "as a worker."
    )


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
