"""Workers started as others start them train as one device does."""

import json
import os
import re
import socket
import subprocess
import sys

import keras
import numpy as np
import problem
import pytest
from places import SHARED

from tfdp.cluster.nodes import free_addresses

PLACED = str(SHARED / "placed.py")
LAUNCH = [sys.executable, "-m", "tfdp.cli", "launch"]


def torchrun(rank, port):
    return {
        "RANK": str(rank),
        "WORLD_SIZE": "2",
        "LOCAL_RANK": str(rank),
        "LOCAL_WORLD_SIZE": "2",
        "GROUP_RANK": "0",
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "none",
    }


def open_mpi(rank, port):
    return {
        "OMPI_COMM_WORLD_RANK": str(rank),
        "OMPI_COMM_WORLD_SIZE": "2",
        "OMPI_COMM_WORLD_LOCAL_RANK": str(rank),
        "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
        "MASTER_ADDR": socket.gethostname(),
        "MASTER_PORT": str(port),
    }


def trainjob(rank, port):
    return {
        "PET_NNODES": "2",
        "PET_NODE_RANK": str(rank),
        "PET_MASTER_ADDR": "127.0.0.1",
        "PET_MASTER_PORT": str(port),
        "JOB_COMPLETION_INDEX": str(rank),
    }


def vertex(rank, addresses):
    pools = {f"workerpool{i}": [a] for i, a in enumerate(addresses)}
    task = {"type": f"workerpool{rank}", "index": 0}
    return {"CLUSTER_SPEC": json.dumps({"cluster": pools, "task": task})}


def outputs(processes):
    """What each has printed; none is left running."""
    try:
        results = [process.communicate(timeout=200) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (stdout, stderr) in zip(processes, results, strict=True):
        assert process.returncode == 0, stdout + stderr
    return "\n".join(stdout for stdout, _ in results)


def start(command, **variables):
    others = {k: v for k, v in os.environ.items() if k != "TF_CONFIG"}
    return subprocess.Popen(
        command,
        env={**others, "TFDP_JOB_SECRET": "one for all", **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def check_equal_to_one_device(output):
    found = [json.loads(x) for x in re.findall(r"placed (\{.*\})", output)]
    assert sorted(each["index"] for each in found) == [0, 1]
    model, _ = problem.train_on_one_device(
        lambda: keras.optimizers.SGD(0.05, momentum=0.9),
        2 * problem.GLOBAL_BATCH,
        epochs=1,
    )
    for each in found:
        assert each["workers"] == 2
        for ours, theirs in zip(
            each["weights"], model.get_weights(), strict=True
        ):
            np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)


@pytest.mark.multi_worker
@pytest.mark.sampled
@pytest.mark.parametrize("environment", [torchrun, open_mpi, trainjob])
def test_two_workers_of_an_environment_equal_one_device(environment):
    (address,) = free_addresses(1)
    port = address.rpartition(":")[2]
    output = outputs(
        [
            start([sys.executable, PLACED], **environment(rank, port))
            for rank in (1, 0)
        ]
    )
    check_equal_to_one_device(output)


@pytest.mark.long
@pytest.mark.multi_worker
def test_two_replicas_of_vertex_equal_one_device():
    addresses = free_addresses(2)
    command = [sys.executable, PLACED]
    workers = [start(command, **vertex(rank, addresses)) for rank in (0, 1)]
    check_equal_to_one_device(outputs(workers))


@pytest.mark.long
@pytest.mark.multi_worker
def test_workers_of_two_launchers_equal_one_device():
    (address,) = free_addresses(1)
    command = [*LAUNCH, "--rendezvous", address, "--workers-total", "2", PLACED]
    check_equal_to_one_device(outputs([start(command), start(command)]))
