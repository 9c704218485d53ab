"""What Slurm tells the tasks of a job step about each other.

Functions of a mapping of variables, such as `os.environ`; nothing here reads
the environment itself. Read are the variables that `srun` gives every task:
`SLURM_PROCID`, `SLURM_LOCALID`, `SLURM_NODEID`, `SLURM_DISTRIBUTION`,
`SLURM_STEP_NUM_TASKS`, `SLURM_STEP_NODELIST`, `SLURM_STEP_TASKS_PER_NODE`,
`SLURM_JOB_ID`, `SLURM_STEP_ID`; those about GPUs that `shared_gpus` names; and
`TFDP_PORT`.
"""

import dataclasses
import re
from collections.abc import Mapping

from tfdp.cluster.environments.claim import Claim
from tfdp.cluster.environments.slurm_hosts import (
    MOST_HOSTS,
    expanded_hosts,
    how_many,
)
from tfdp.cluster.tf_config import Place
from tfdp.machine import ports

# Below the ports that Linux hands out by itself (32768 and up).
_FIRST_PORT = 10_000
_PORTS_PER_STEP = 64
_STEPS = 311
_MOST_TASKS = 1_000_000


@dataclasses.dataclass(frozen=True)
class Step:
    """The tasks of a job step, and which of them this process is.

    Args:
        hosts: Names of the nodes, in Slurm's order.
        tasks_per_host: Number of tasks on each of them.
        rank: Place of this task among all, which are numbered host by host.
        port: Port of each host's first task; the next has the next port.
        visible_gpus: Which of the GPUs it sees are this task's, by index;
            `None` for all.

    Example:

    >>> step = Step(("a", "b"), (2, 1), rank=1, port=10_000)
    >>> step.addresses
    ('a:10000', 'a:10001', 'b:10000')
    """

    hosts: tuple[str, ...]
    tasks_per_host: tuple[int, ...]
    rank: int
    port: int
    visible_gpus: tuple[int, ...] | None = None

    @property
    def addresses(self) -> tuple[str, ...]:
        """Address of every task, by rank."""
        return tuple(
            ports.joined_address(host, self.port + local_rank)
            for host, tasks in zip(self.hosts, self.tasks_per_host, strict=True)
            for local_rank in range(tasks)
        )


def step_of(variables: Mapping[str, str]) -> Step | None:
    """Returns the step of several tasks that this process belongs to.

    A batch script, or the shell of `salloc`, is no task of a step: only what
    `srun` starts is.

    Each host's first task listens on a port that follows from the numbers of
    job and step: one of 311 ranges of 64 ports from 10000, so that two steps
    that share a node, of one job or of two, are unlikely to meet. `TFDP_PORT`
    sets the port instead.

    Args:
        variables: Environment variables of this process.

    Returns:
        The step, or `None` where this process was not started together with
        others by `srun`.

    Raises:
        ValueError: If the variables contradict each other, tasks are not
            numbered host by host, or `TFDP_PORT` is not a usable port.

    Example:

    >>> step = step_of(
    ...     {
    ...         "SLURM_JOB_ID": "7",
    ...         "SLURM_PROCID": "2",
    ...         "SLURM_STEP_NUM_TASKS": "3",
    ...         "SLURM_STEP_NODELIST": "gpu[08-09]",
    ...         "SLURM_STEP_TASKS_PER_NODE": "2,1",
    ...         "TFDP_PORT": "12345",
    ...     }
    ... )
    >>> step.addresses[step.rank]
    'gpu09:12345'
    """
    if (
        "SLURM_PROCID" not in variables
        or _integer(variables, "SLURM_STEP_NUM_TASKS", "1") < 2
    ):
        return None
    rank = _integer(variables, "SLURM_PROCID")
    count = _integer(variables, "SLURM_STEP_NUM_TASKS")
    hosts = expanded_hosts(variables.get("SLURM_STEP_NODELIST", ""))
    tasks = expanded_tasks(variables.get("SLURM_STEP_TASKS_PER_NODE", ""))
    if not (len(hosts) == len(tasks) and sum(tasks) == count > rank):
        raise ValueError(
            "The nodes and tasks of a Slurm step must match. Received: "
            f"SLURM_STEP_NODELIST with {len(hosts)} node(s), "
            f"SLURM_STEP_TASKS_PER_NODE={tasks}, SLURM_STEP_NUM_TASKS={count}, "
            f"SLURM_PROCID={rank}. Start all workers by one `srun` (not as a "
            "heterogeneous job), or set TF_CONFIG yourself."
        )
    nodes = [node for node, number in enumerate(tasks) for _ in range(number)]
    local_rank = rank - nodes.index(nodes[rank])
    _check_distribution(variables, rank, nodes[rank], local_rank, tasks)
    return Step(
        hosts,
        tasks,
        rank,
        _port(variables, max(tasks)),
        shared_gpus(variables, local_rank, tasks=tasks[nodes[rank]]),
    )


def claim(variables: Mapping[str, str]) -> Claim | None:
    """Returns what the variables of a job step say.

    Args:
        variables: Environment variables of this process.

    Returns:
        What they say, or `None` where `step_of` finds no step.

    Raises:
        ValueError: As `step_of` does.
    """
    step = step_of(variables)
    if step is None:
        return None
    jobs = {"worker": step.addresses}
    return Claim(
        f"Slurm, step {step_name(variables)}",
        step.rank,
        len(step.addresses),
        Place(jobs, "worker", step.rank, {}, step.visible_gpus),
    )


def step_name(variables: Mapping[str, str]) -> str:
    """Returns the numbers of job and step.

    Args:
        variables: Environment variables of this process.

    Example:

    >>> step_name({"SLURM_JOB_ID": "17", "SLURM_STEP_ID": "0"})
    '17.0'
    """
    return ".".join(
        variables.get(name, "?") for name in ("SLURM_JOB_ID", "SLURM_STEP_ID")
    )


def expanded_tasks(text: str) -> tuple[int, ...]:
    """Returns the numbers of tasks that Slurm's short form stands for.

    Args:
        text: A list such as `"2(x3),1"`.

    Returns:
        Number of tasks on each node.

    Raises:
        ValueError: If the text is empty or not of that form, or stands for
            more nodes or tasks than there are.

    Example:

    >>> expanded_tasks("2(x3),1")
    (2, 2, 2, 1)
    """
    tasks: list[int] = []
    total = 0
    for item in text.split(","):
        match = re.fullmatch(r"([0-9]{1,9})(?:\(x([0-9]{1,9})\))?", item)
        if not match:
            raise ValueError(
                "Slurm's tasks per node must be of the form `2(x3),1`. "
                f"Received: {text!r}. Start the workers by `srun`, or set "
                "TF_CONFIG yourself."
            )
        number, nodes = int(match[1]), int(match[2] or 1)
        total += number * nodes
        if len(tasks) + nodes > MOST_HOSTS or total > _MOST_TASKS:
            raise ValueError(
                f"A Slurm step must have at most {MOST_HOSTS:,} nodes and "
                f"{_MOST_TASKS:,} tasks. Received: {text[:200]!r} for its "
                "tasks per node. Start the workers by `srun`, or set TF_CONFIG "
                "yourself."
            )
        tasks += [number] * nodes
    return tuple(tasks)


def shared_gpus(
    variables: Mapping[str, str], local_rank: int, *, tasks: int
) -> tuple[int, ...] | None:
    """Returns this task's share of GPUs that all tasks of its node see.

    Where Slurm was not asked to bind GPUs to tasks, each task of a node sees
    all of the node's. Then the first of them are the first task's, and so on;
    every task has the same number, and a remainder is nobody's.

    They are taken to be bound, and all that are visible to be this task's,
    where one of `SLURM_GPUS_PER_TASK`, `SLURM_NTASKS_PER_GPU`,
    `SLURM_GPU_BIND` or `SLURM_TRES_BIND` is set to other than `none`, where
    `SLURM_TRES_PER_TASK` has GPUs, where `CUDA_VISIBLE_DEVICES` has not as
    many as `SLURM_STEP_GPUS` (or, without it, `SLURM_JOB_GPUS`), or where
    there are fewer than tasks.

    Args:
        variables: Environment variables of this process.
        local_rank: Place of this task among those of its node, from 0.
        tasks: Number of tasks on its node.

    Returns:
        Indices into the visible GPUs, or `None` for all of them.

    Example:

    >>> variables = {
    ...     "CUDA_VISIBLE_DEVICES": "0,1,2,3",
    ...     "SLURM_STEP_GPUS": "4,5,6,7",
    ... }
    >>> shared_gpus(variables, 1, tasks=2)
    (2, 3)
    """
    bound = any(
        variables.get(name, "none") != "none"
        for name in (
            "SLURM_GPUS_PER_TASK",
            "SLURM_NTASKS_PER_GPU",
            "SLURM_GPU_BIND",
            "SLURM_TRES_BIND",
        )
    ) or "gpu" in variables.get("SLURM_TRES_PER_TASK", "")
    visible = _count(variables.get("CUDA_VISIBLE_DEVICES", ""))
    of_node = variables.get("SLURM_STEP_GPUS") or variables.get(
        "SLURM_JOB_GPUS", ""
    )
    if bound or tasks < 2 or visible < tasks or visible != _count(of_node):
        return None
    share = visible // tasks
    return tuple(range(local_rank * share, (local_rank + 1) * share))


def waiting_tasks(variables: Mapping[str, str]) -> int:
    """Returns how many tasks `srun` would start, were it called here.

    Args:
        variables: Environment variables of this process.

    Returns:
        The number in a batch script or the shell of `salloc`; 0 elsewhere.

    Example:

    >>> waiting_tasks({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "8"})
    8
    """
    if "SLURM_JOB_ID" not in variables or step_of(variables):
        return 0
    text = variables.get("SLURM_NTASKS", "")
    return int(text) if ports.is_whole(text) else 0


def _integer(variables: Mapping[str, str], name: str, default: str = "") -> int:
    text = variables.get(name, default)
    if not ports.is_whole(text):
        raise ValueError(
            f"{name} must be a whole number. Received: {name}={text!r}. Start "
            "the workers by `srun`, or set TF_CONFIG yourself."
        )
    return int(text)


def _check_distribution(
    variables: Mapping[str, str],
    rank: int,
    node: int,
    local_rank: int,
    tasks: tuple[int, ...],
) -> None:
    # Which task runs where, a task knows of itself only. The name of the
    # distribution lets all of them stop, not just those it moves.
    places = {"SLURM_NODEID": node, "SLURM_LOCALID": local_rank}
    wrong = [
        f"{name}={variables[name]}"
        for name, expected in places.items()
        if variables.get(name, str(expected)) != str(expected)
    ]
    distribution = variables.get("SLURM_DISTRIBUTION", "")
    # With one task on each node, or one node, all are the same.
    matters = len(tasks) > 1 and max(tasks) > 1
    if matters and distribution.startswith("cyclic"):
        wrong.append(f"SLURM_DISTRIBUTION={distribution}")
    if wrong:
        raise ValueError(
            "The tasks of a Slurm step must be numbered node by node. "
            f"Received: {', '.join(wrong)} for SLURM_PROCID={rank} of "
            f"SLURM_STEP_TASKS_PER_NODE={tasks}. Start the workers by `srun "
            "--distribution=block`."
        )


def _port(variables: Mapping[str, str], tasks: int) -> int:
    if "TFDP_PORT" not in variables:
        job = _integer(variables, "SLURM_JOB_ID", "0")
        step = _integer(variables, "SLURM_STEP_ID", "0")
        # Primes, so that neighbours in either number lie apart.
        place = (37 * job + 101 * step) % _STEPS
        return _FIRST_PORT + _PORTS_PER_STEP * place
    text = variables["TFDP_PORT"]
    highest = 65536 - tasks
    if not (ports.is_whole(text) and 0 < int(text) <= highest):
        raise ValueError(
            f"TFDP_PORT must be a port from 1 to {highest}, as {tasks} "
            "task(s) of a node need one each. Received: "
            f"TFDP_PORT={text!r}. Unset it to have one chosen."
        )
    return int(text)


def _count(devices: str) -> int:
    """Number of devices in a list such as `0,1`, `0-3` or `GPU-5e…,MIG-…`."""
    return sum(
        how_many(item) if re.fullmatch(r"[0-9]{1,9}-[0-9]{1,9}", item) else 1
        for item in devices.split(",")
        if item.strip()
    )
