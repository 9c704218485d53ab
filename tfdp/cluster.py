"""Who the workers of a job are, and which of them this process is.

Environment variables read, here and nowhere else in tfdp:

- `TF_CONFIG`: JSON with `cluster` (job name to list of `host:port`) and `task`
  (`type` and `index`). Unset or empty: a job of one process.
"""

import contextlib
import dataclasses
import json
import os
import socket
from collections.abc import Mapping
from typing import Any

import psutil

# The jobs that train; TensorFlow numbers the chief before the workers.
_TRAINING_JOBS = ("chief", "worker")
_JOBS = (*_TRAINING_JOBS, "evaluator")
_EXAMPLE = (
    '{"cluster": {"worker": ["host0:12345", "host1:12345"]}, '
    '"task": {"type": "worker", "index": 0}}'
)


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The worker processes of a job and the place of this one among them.

    Args:
        jobs: Addresses (`"host:port"`) by job name: `"worker"`, and
            optionally `"chief"` and `"evaluator"`, as in `TF_CONFIG`.
        task_type: Job of this process.
        task_index: Place of this process in its job, from 0.

    Raises:
        ValueError: If there is no training job, a job is unknown, an address
            is malformed or named twice, or this task is not in the cluster.

    Example:

    >>> cluster = Cluster({"worker": ("a:1", "b:1")}, "worker", 1)
    >>> cluster.num_workers, cluster.index, cluster.is_chief
    (2, 1, False)
    """

    jobs: Mapping[str, tuple[str, ...]]
    task_type: str
    task_index: int

    def __post_init__(self) -> None:
        """Checks the addresses and that this task is one of them."""
        jobs = {name: tuple(addresses) for name, addresses in self.jobs.items()}
        object.__setattr__(self, "jobs", jobs)
        unknown = sorted(set(jobs) - set(_JOBS))
        if unknown:
            raise ValueError(
                f"A job of the cluster must be one of {', '.join(_JOBS)}. "
                f"Received: {', '.join(unknown)}. Data-parallel training has "
                "no parameter servers; list every process as a worker."
            )
        if not self.workers:
            raise ValueError(
                "The cluster must name at least one worker. Received: "
                f"cluster={jobs}. Example: TF_CONFIG='{_EXAMPLE}'"
            )
        if len(jobs.get("chief", ())) > 1:
            raise ValueError(
                "The cluster must have at most one chief. Received: "
                f"chief={list(jobs['chief'])}. List the others as workers."
            )
        everyone = [a for addresses in jobs.values() for a in addresses]
        for address in everyone:
            _check_address(address)
        twice = sorted({a for a in everyone if everyone.count(a) > 1})
        if twice:
            raise ValueError(
                "Every address of the cluster must belong to one process. "
                f"Received twice: {', '.join(twice)}. Give each process a "
                "port of its own."
            )
        if not isinstance(self.task_index, int) or isinstance(
            self.task_index, bool
        ):
            raise ValueError(
                "The task must have an integer index. Received: "
                f"index={self.task_index!r}. Example: TF_CONFIG='{_EXAMPLE}'"
            )
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
    def from_environment(cls) -> "Cluster | None":
        """Reads the cluster from the environment.

        Returns:
            The cluster, or `None` where `TF_CONFIG` is unset, empty, or names
            no cluster and no task: a job of one process.

        Raises:
            ValueError: If `TF_CONFIG` is malformed.
        """
        text = os.environ.get("TF_CONFIG", "").strip()
        config = _parsed(text) if text else {}
        is_one_process = isinstance(config, dict) and not (
            config.keys() & {"cluster", "task"}
        )
        return None if is_one_process else cls.from_tf_config(text)

    @classmethod
    def from_tf_config(cls, text: str) -> "Cluster":
        """Reads the cluster from the JSON text of a `TF_CONFIG`.

        Args:
            text: JSON object with `cluster` and `task`. Other keys are
                ignored, as TensorFlow ignores them.

        Returns:
            The cluster.

        Raises:
            ValueError: If the text is not such an object, or names an
                impossible cluster.
        """
        config = _parsed(text)
        jobs = _member(config, "cluster", dict, text)
        task = _member(config, "task", dict, text)
        for name, addresses in jobs.items():
            if not isinstance(addresses, list):
                raise ValueError(
                    "A job of TF_CONFIG must be a list of addresses. "
                    f"Received: {name}={addresses!r}. "
                    f"Example: TF_CONFIG='{_EXAMPLE}'"
                )
        index = task.get("index")
        if isinstance(index, str) and index.isdecimal():
            index = int(index)
        return cls(jobs, task.get("type", ""), index)

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
        """Address of this process."""
        return self.jobs[self.task_type][self.task_index]

    @property
    def is_training(self) -> bool:
        """Whether this process is one of the workers, not an evaluator."""
        return self.task_type in _TRAINING_JOBS

    @property
    def index(self) -> int:
        """Place of this process among the workers; 0 for an evaluator."""
        return self.workers.index(self.address) if self.is_training else 0

    @property
    def is_chief(self) -> bool:
        """Whether this process is worker 0, which writes and prints."""
        return self.is_training and self.index == 0

    def check_port(self) -> None:
        """Checks that this process can listen on its own port.

        TensorFlow's own failure comes later and does not name the port.

        Raises:
            RuntimeError: If another process holds the port, or listening on
                it is not permitted.
        """
        port = int(self.address.rpartition(":")[2])
        try:
            socket.create_server(("", port)).close()
        except OSError as error:
            if port in _own_ports():
                return
            raise RuntimeError(
                "A worker must be able to listen on its own port. Received: "
                f"address={self.address}, {self.task_type} {self.task_index}: "
                f"{error.strerror}{_holder(port)}. End that process, or give "
                "the worker a free port in the TF_CONFIG of every worker."
            ) from error


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"TF_CONFIG must be JSON. Received: {_shortened(text)} "
            f"({error}). Example: TF_CONFIG='{_EXAMPLE}'"
        ) from error


def _member(config: Any, name: str, kind: type, text: str) -> Any:
    value = config.get(name) if isinstance(config, dict) else None
    if not isinstance(value, kind):
        raise ValueError(
            f"TF_CONFIG must have an object `{name}`. Received: "
            f"{_shortened(text)}. Example: TF_CONFIG='{_EXAMPLE}'"
        )
    return value


def _check_address(address: Any) -> None:
    host, _, port = (
        address.rpartition(":") if isinstance(address, str) else ("", "", "")
    )
    if not (host and port.isdecimal() and 0 < int(port) < 65536):
        raise ValueError(
            "An address of the cluster must be `host:port` with a port from "
            f"1 to 65535. Received: {address!r}."
        )


def _shortened(text: str) -> str:
    return text if len(text) <= 200 else text[:200] + "…"


def _own_ports() -> set[int]:
    connections = psutil.Process().net_connections(kind="tcp")
    return {c.laddr.port for c in connections if c.status == psutil.CONN_LISTEN}


def _holder(port: int) -> str:
    with contextlib.suppress(psutil.Error):
        for connection in psutil.net_connections(kind="tcp"):
            listens = connection.status == psutil.CONN_LISTEN
            if listens and connection.laddr.port == port and connection.pid:
                name = psutil.Process(connection.pid).name()
                return f", held by {name} (process {connection.pid})"
    return ""
