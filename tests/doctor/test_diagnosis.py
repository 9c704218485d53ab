"""Whether training would start, where it would and where it would not."""

import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import types
from importlib import metadata

import keras
import pytest
import tensorflow as tf

from tfdp.cluster.cluster import Cluster
from tfdp.doctor import hardware as machine
from tfdp.doctor.checkup import diagnosis
from tfdp.machine import ports
from tfdp.upstream import gloo
from tfdp.upstream.tensorflow import tf_runtime

WORKER = {"type": "worker", "index": 0}


@pytest.fixture(autouse=True)
def _nothing_is_set(monkeypatch):
    for name in [n for n in os.environ if n.startswith(("SLURM_", "TFDP_"))]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("TF_CONFIG", raising=False)
    monkeypatch.setattr(shutil, "which", lambda program: None)


@pytest.fixture(autouse=True)
def outside(monkeypatch):
    """By which numbers other machines know this one."""
    found = []
    monkeypatch.setattr(ports, "outside_addresses", lambda: list(found))
    return found


@pytest.fixture
def free_ports():
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    found = [server.getsockname()[1] for server in servers]
    for server in servers:
        server.close()
    return found


@pytest.fixture
def cores(monkeypatch):
    def give(usable, present):
        monkeypatch.setattr(
            os,
            "sched_getaffinity",
            lambda pid: set(range(usable)),
            raising=False,
        )
        monkeypatch.setattr(os, "cpu_count", lambda: present)

    return give


def sections():
    return {s.title: s for s in diagnosis(timeout=0.3)}


def texts(section, severity):
    return [x.text for x in section.lines if x.severity == severity]


def set_tf_config(monkeypatch, addresses, task=WORKER):
    config = {"cluster": {"worker": addresses}, "task": task}
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))


def errors(found):
    return [error for section in found.values() for error in section.errors]


def test_one_process_would_start():
    found = sections()
    assert list(found) == [
        "versions",
        "cluster",
        "devices",
        "cores",
        "kernels",
        "precision",
    ]
    assert errors(found) == []
    (where, what, _) = texts(found["cluster"], "fine")
    assert where == (
        "found in: neither TF_CONFIG nor a scheduler that tfdp knows"
    )
    assert what == "a job of one process"
    assert "no GPU" in texts(found["devices"], "fine")


def test_versions_are_told_with_what_is_needed():
    told = texts(sections()["versions"], "fine")
    assert f"tfdp {metadata.version('tfdp')}" in told
    assert f"tensorflow {tf.__version__} (needed: >=2.18)" in told
    assert f"keras {keras.__version__} (needed: >=3.10)" in told


@pytest.mark.parametrize(
    ("version", "is_error"),
    [
        ("2.17.1", True),
        ("2.18", False),
        ("2.18.0", False),
        ("2.21.0-rc1", False),
        ("3.0", False),
    ],
)
def test_a_version_out_of_range_is_an_error(monkeypatch, version, is_error):
    monkeypatch.setattr(tf, "__version__", version)
    found = sections()["versions"].errors
    assert found == (
        [
            "The version of tensorflow must be >=2.18. Received: tensorflow "
            f"{version}. Install one of these."
        ]
        if is_error
        else []
    )


@pytest.mark.parametrize(
    ("version", "is_error"),
    [("3.10.12", True), ("3.11.0", False), ("3.13.9", False), ("3.14.0", True)],
)
def test_a_python_out_of_range_is_an_error(monkeypatch, version, is_error):
    monkeypatch.setattr("platform.python_version", lambda: version)
    assert bool(sections()["versions"].errors) == is_error


def test_a_tensorflow_that_cannot_be_imported_is_an_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    found = sections()
    assert list(found) == ["versions", "cluster"]
    (error,) = errors(found)
    assert error.startswith(
        "TensorFlow and Keras must be importable. Received: "
    )
    assert "ModuleNotFoundError" in error


def test_another_backend_of_keras_is_an_error(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    (error,) = sections()["versions"].errors
    assert error == (
        "Keras must compute with TensorFlow. Received: backend='jax'. Set "
        "KERAS_BACKEND=tensorflow, or `backend` in ~/.keras/keras.json."
    )


def test_workers_that_are_not_there_yet_would_start(monkeypatch, free_ports):
    addresses = [f"127.0.0.1:{port}" for port in free_ports]
    set_tf_config(monkeypatch, addresses)
    found = sections()
    assert errors(found) == []
    assert "found in: TF_CONFIG" in texts(found["cluster"], "fine")
    assert any("worker 1  " in x for x in texts(found["cluster"], "fine"))
    assert texts(found["ports"], "fine") == [
        f"{addresses[0]} is free (this process)",
        f"{addresses[1]} is there and does not listen yet",
        f"{addresses[2]} is there and does not listen yet",
    ]


def test_a_worker_that_listens_is_named(monkeypatch, free_ports):
    with socket.create_server(("127.0.0.1", 0)) as server:
        peer = f"127.0.0.1:{server.getsockname()[1]}"
        set_tf_config(monkeypatch, [f"127.0.0.1:{free_ports[0]}", peer])
        section = sections()["ports"]
    _, line = texts(section, "fine")
    assert line.startswith(f"{peer} listens: ")
    assert f"(process {os.getpid()})" in line


def test_a_missing_host_is_named(monkeypatch, free_ports):
    own = f"127.0.0.1:{free_ports[0]}"
    set_tf_config(monkeypatch, [own, "nowhere.invalid:7"])
    (error,) = sections()["ports"].errors
    assert error.startswith(
        "Every worker must be reachable. Received: nowhere.invalid:7: "
    )


def test_a_busy_port_of_ones_own_is_an_error(monkeypatch):
    code = (
        "import socket, sys\n"
        "server = socket.create_server(('127.0.0.1', 0))\n"
        "print(server.getsockname()[1], flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        address = f"127.0.0.1:{int(process.stdout.readline())}"
        set_tf_config(monkeypatch, [address])
        (error,) = sections()["ports"].errors
        process.stdin.close()
    assert f"Received: address={address}, worker 0: " in error
    assert f"(process {process.pid})" in error


def test_an_address_of_another_machine_is_a_warning(monkeypatch, free_ports):
    set_tf_config(monkeypatch, [f"nowhere.invalid:{free_ports[0]}"])
    section = sections()["ports"]
    (warning,) = texts(section, "warning")
    assert "should be one of this machine. Received: nowhere.inv" in warning
    assert warning.endswith("check the task's index.")


def test_a_tf_config_that_can_be_guessed_is_corrected(monkeypatch, free_ports):
    own, other = (f"127.0.0.1:{port}" for port in free_ports[:2])
    meant = {"cluster": {"worker": [own, other]}, "task": WORKER}
    monkeypatch.setenv("TF_CONFIG", str(meant))
    found = sections()
    (error,) = errors(found)
    assert error.startswith("TF_CONFIG must be JSON. Received: {'cluster'")
    (warning,) = texts(found["cluster"], "warning")
    assert warning == (
        f"probably meant:\nexport TF_CONFIG='{json.dumps(meant)}'"
    )
    # The others are looked for where they were meant to be.
    assert f"{other} is there and" in texts(found["ports"], "fine")[1]


def test_an_index_as_text_does_not_keep_from_starting(monkeypatch, free_ports):
    own = f"127.0.0.1:{free_ports[0]}"
    set_tf_config(monkeypatch, [own], {"type": "worker", "index": "0"})
    found = sections()
    assert errors(found) == []
    index, meant = texts(found["cluster"], "warning")
    assert "Received: index='0'." in index
    assert meant.startswith("probably meant:\nexport TF_CONFIG=")


def test_what_is_wrong_after_the_correction_is_told_too(monkeypatch):
    set_tf_config(monkeypatch, "a:1,b:2", {"type": "worker", "index": 2})
    found = sections()
    first, second = errors(found)
    assert "Received: worker='a:1,b:2'." in first
    assert "Received: index=2, with 2 worker address(es)." in second
    assert "ports" not in found


def test_a_tf_config_that_cannot_be_guessed_is_an_error(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "worker")
    found = sections()
    (error,) = errors(found)
    assert error.startswith("TF_CONFIG must be JSON. Received: worker (")
    assert texts(found["cluster"], "warning") == []


def test_a_cyclic_step_of_slurm_is_an_error(monkeypatch):
    for name, value in {
        "SLURM_PROCID": "1",
        "SLURM_NODEID": "1",
        "SLURM_STEP_NUM_TASKS": "4",
        "SLURM_STEP_NODELIST": "n[1-2]",
        "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
    }.items():
        monkeypatch.setenv(name, value)
    (error,) = errors(sections())
    assert "`srun --distribution=block`" in error


def set_torchrun(monkeypatch, rank, port):
    told = {"RANK": rank, "WORLD_SIZE": "4", "MASTER_ADDR": "127.0.0.1"}
    for name, value in {**told, "MASTER_PORT": str(port)}.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("rank", "what"),
    [
        ("0", "is free (this process holds the roll call)"),
        ("3", "is there and does not listen yet"),
    ],
)
def test_who_meets_the_others_is_told_where_and_waits_for_nobody(
    monkeypatch, free_ports, rank, what
):
    port = free_ports[0]
    set_torchrun(monkeypatch, rank, port)
    found = sections()
    assert errors(found) == []
    assert texts(found["cluster"], "fine")[:2] == [
        "found in: torchrun's variables",
        f"worker {rank} of 4, who tell each other their addresses at "
        f"127.0.0.1:{port}",
    ]
    assert texts(found["ports"], "fine") == [f"127.0.0.1:{port} {what}"]


def test_who_cannot_listen_where_all_meet_is_an_error(monkeypatch):
    with subprocess.Popen(
        [sys.executable, "-c", LISTENS], stdout=subprocess.PIPE, text=True
    ) as other:
        set_torchrun(monkeypatch, "0", port := int(other.stdout.readline()))
        (error,) = errors(sections())
        other.kill()
    assert f"address=127.0.0.1:{port}, where all workers meet: Addr" in error


LISTENS = """
import socket, time
with socket.create_server(("", 0)) as server:
    print(server.getsockname()[1], flush=True)
    time.sleep(60)
"""


def test_environments_that_disagree_are_an_error(monkeypatch):
    set_torchrun(monkeypatch, "0", 29500)
    monkeypatch.setenv("SM_HOSTS", '["algo-1", "algo-2"]')
    monkeypatch.setenv("SM_CURRENT_HOST", "algo-2")
    (error,) = errors(sections())
    assert error.startswith("Only one environment may say who the workers are")


def test_an_impossible_time_to_start_is_an_error(monkeypatch):
    monkeypatch.setenv("TFDP_START_TIMEOUT", "soon")
    (error,) = errors(sections())
    assert "Received: TFDP_START_TIMEOUT='soon'." in error


def test_few_cores_of_ones_own_are_known_to_tfdp(cores):
    cores(usable=2, present=64)
    section = machine.cores(None)
    assert texts(section, "fine")[0] == (
        "2 core(s) for this process of 64, 1 worker(s) on this host"
    )
    assert "tfdp turns off the autotuner" in texts(section, "fine")[-1]
    assert texts(section, "warning") == []


def test_many_cores_are_fine(cores):
    cores(usable=16, present=16)
    section = machine.cores(Cluster.of(["a:1", "a:2", "b:1"], 0))
    assert texts(section, "warning") == []
    assert len(section.lines) == 2
    assert "16 core(s) for this process, 2 worker(s)" in section.lines[0].text


@pytest.mark.parametrize(
    ("usable", "text"),
    [
        (4, "Received: 4 cores for 2 workers. Start fewer, or confine"),
        (1, "Received: 2 workers on 1 core(s). Start fewer."),
    ],
)
def test_few_cores_for_all_are_a_warning(cores, usable, text):
    cores(usable=usable, present=usable)
    section = machine.cores(Cluster.of(["a:1", "a:2"], 0))
    (warning,) = texts(section, "warning")
    assert text in warning


@pytest.fixture
def gpus(monkeypatch):
    """Pretends that TensorFlow, and the driver, see so many GPUs."""

    def give(visible, of_driver):
        monkeypatch.setattr(
            tf.config,
            "list_physical_devices",
            lambda kind: list(range(visible)),
        )
        details = {"device_name": "A1", "compute_capability": (8, 0)}
        monkeypatch.setattr(
            tf.config.experimental, "get_device_details", lambda gpu: details
        )
        monkeypatch.setattr(shutil, "which", lambda program: f"/bin/{program}")
        monkeypatch.setattr(
            subprocess,
            "run",
            lambda *args, **kwargs: types.SimpleNamespace(
                stdout="A1, 40960 MiB, 3 MiB\n" * of_driver
            ),
        )

    return give


def test_gpus_are_told_with_their_memory(gpus):
    gpus(visible=1, of_driver=1)
    told = texts(machine.devices(None), "fine")
    assert "GPU 0: A1, compute capability 8.0" in told
    assert "driver: A1, 40960 MiB, 3 MiB in use" in told


def test_gpus_that_tensorflow_does_not_see_are_a_warning(gpus):
    gpus(visible=0, of_driver=2)
    (warning,) = texts(machine.devices(None), "warning")
    assert "Received: none, of 2 that the driver sees." in warning


def test_workers_that_see_the_same_gpus_are_a_warning(gpus):
    gpus(visible=2, of_driver=2)
    workers = ["a:1", "a:2"]
    (warning,) = texts(machine.devices(Cluster.of(workers, 0)), "warning")
    assert "Received: 2 workers, and all 2 GPU(s) of the host" in warning
    shared = Cluster({"worker": workers}, "worker", 0, visible_gpus=(0,))
    assert texts(machine.devices(shared), "warning") == []
    assert (
        texts(machine.devices(Cluster.of(["a:1", "b:1"], 0)), "warning") == []
    )


def test_a_share_of_gpus_that_are_not_there_is_an_error(gpus):
    gpus(visible=2, of_driver=4)
    cluster = Cluster({"worker": ["a:1"]}, "worker", 0, visible_gpus=(2, 3))
    (error,) = machine.devices(cluster).errors
    assert "Received: GPUs [2, 3] of 2." in error


def test_a_driver_that_does_not_answer_is_no_driver(gpus, monkeypatch):
    gpus(visible=1, of_driver=1)

    def hang(command, **kwargs):
        raise subprocess.TimeoutExpired(command, 20)

    monkeypatch.setattr(subprocess, "run", hang)
    told = texts(machine.devices(None), "fine")
    assert [x for x in told if x.startswith("driver")] == []


def test_the_policy_of_this_process_stays_what_it_was():
    keras.config.set_dtype_policy("mixed_float16")
    (line,) = machine.precision().lines
    assert line.text.startswith("the hardware suits dtype policy ")
    assert keras.config.dtype_policy().name == "mixed_float16"


def test_what_tensorflow_writes_is_dropped_and_the_rest_is_not(capfd):
    with machine.quiet():
        os.write(2, b"noise\n")
    os.write(2, b"signal\n")
    assert capfd.readouterr().err == "signal\n"


def test_local_workers_that_others_can_reach_are_a_warning(
    monkeypatch, free_ports, outside
):
    outside += ["10.0.0.7", "2001:db8::7"]
    own, other = (f"127.0.0.1:{port}" for port in free_ports[:2])
    set_tf_config(monkeypatch, [own, other])
    found = sections()
    (warning,) = texts(found["ports"], "warning")
    assert warning.startswith(
        "Workers of one machine should be out of reach of others. Received: "
        f"{own}, on a machine that is also 10.0.0.7, 2001:db8::7. "
    )
    assert "`tfdp launch --isolated`" in warning
    assert errors(found) == []


def test_workers_that_should_be_reached_are_no_warning(
    monkeypatch, free_ports, outside
):
    outside += ["10.0.0.7"]
    for addresses in ([f"127.0.0.1:{free_ports[0]}"], ["127.0.0.1:1", "x:1"]):
        set_tf_config(monkeypatch, addresses)
        section = sections()["ports"]
        assert not any("out of reach" in x.text for x in section.lines)


@pytest.mark.parametrize(
    ("chosen", "is_there", "severity", "text"),
    [
        ("", True, "fine", "by gloo, if all workers have it"),
        ("", False, "fine", "by TensorFlow: gloo is not installed; between"),
        ("gloo", False, "error", "TFDP_COMMUNICATION=gloo; gloo is not"),
        ("tensorflow", True, "fine", "by TensorFlow, as asked for"),
        ("mpi", True, "error", "Received: TFDP_COMMUNICATION='mpi'"),
    ],
)
def test_what_gradients_travel_by_is_told(
    monkeypatch, chosen, is_there, severity, text
):
    monkeypatch.setenv("TFDP_COMMUNICATION", chosen)
    monkeypatch.setattr(gloo, "is_there", lambda: is_there)
    (told,) = texts(machine.communication(), severity)
    assert text in told


@pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="for x86"
)
def test_slow_kernels_are_a_warning(monkeypatch):
    monkeypatch.setattr(tf_runtime, "uses_onednn", lambda: False)
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS")
    (warning,) = texts(machine.kernels(), "warning")
    assert (
        "Received: Eigen's; TF_ENABLE_ONEDNN_OPTS is unset. Set it" in warning
    )
    monkeypatch.setattr(tf_runtime, "uses_onednn", lambda: True)
    assert texts(machine.kernels(), "fine") == ["on the CPU: oneDNN"]
