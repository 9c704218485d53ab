import errno
import json
import os
import re
import socket
import subprocess
import sys
import time
import types

import psutil
import pytest

from tfdp.cluster.cluster import Cluster
from tfdp.cluster.environment import source
from tfdp.cluster.nodes import Nodes
from tfdp.machine import listening

WORKERS = ("a:1", "b:2", "c:3")


def tf_config(cluster=None, task=None, **others):
    return json.dumps(
        {
            "cluster": {"worker": ["a:1", "b:2"]}
            if cluster is None
            else cluster,
            "task": {"type": "worker", "index": 0} if task is None else task,
            **others,
        }
    )


def message_of(error, function, *args):
    with pytest.raises(error) as caught:
        function(*args)
    return str(caught.value)


def test_workers_are_numbered_in_the_order_of_their_list():
    clusters = [Cluster({"worker": WORKERS}, "worker", i) for i in range(3)]
    assert [c.workers for c in clusters] == [WORKERS] * 3
    assert [c.num_workers for c in clusters] == [3, 3, 3]
    assert [c.index for c in clusters] == [0, 1, 2]
    assert [c.address for c in clusters] == ["a:1", "b:2", "c:3"]
    assert [c.is_chief for c in clusters] == [True, False, False]
    assert all(c.is_training for c in clusters)


@pytest.mark.parametrize(
    "jobs",
    [
        {"chief": ["c:9"], "worker": ["a:1", "b:2"]},
        {"worker": ["a:1", "b:2"], "chief": ["c:9"]},
    ],
    ids=["chief-first", "chief-last"],
)
def test_a_chief_comes_before_the_workers(jobs):
    chief = Cluster(jobs, "chief", 0)
    first, second = (Cluster(jobs, "worker", i) for i in range(2))
    assert chief.workers == ("c:9", "a:1", "b:2")
    assert [c.index for c in (chief, first, second)] == [0, 1, 2]
    assert [c.is_chief for c in (chief, first, second)] == [True, False, False]


def test_a_chief_may_be_alone():
    cluster = Cluster({"chief": ("c:9",)}, "chief", 0)
    assert (cluster.num_workers, cluster.index, cluster.is_chief) == (
        1,
        0,
        True,
    )


def test_an_evaluator_does_not_train_and_is_not_counted():
    jobs = {"worker": WORKERS, "evaluator": ("e:4",)}
    evaluator = Cluster(jobs, "evaluator", 0)
    assert evaluator.num_workers == 3
    assert evaluator.address == "e:4"
    assert not evaluator.is_training
    assert not evaluator.is_chief
    assert evaluator.index == 0


def test_an_evaluator_need_not_be_listed():
    # TensorFlow takes such a TF_CONFIG; the evaluator is on its own.
    text = tf_config(task={"type": "evaluator", "index": 0})
    evaluator = Cluster.from_tf_config(text)
    assert (evaluator.num_workers, evaluator.index) == (2, 0)
    assert not evaluator.is_training
    assert not evaluator.is_chief
    assert evaluator.address == ""
    evaluator.check_port()
    assert evaluator.describe().splitlines()[-1] == (
        "evaluator 0  not listed  this process"
    )


def test_an_unlisted_evaluator_has_an_index_all_the_same():
    message = message_of(
        ValueError, Cluster, {"worker": WORKERS}, "evaluator", -1
    )
    assert "type='evaluator', cluster with worker" in message


def test_processes_are_described_host_by_host():
    jobs = {
        "worker": ("b:1", "a:2"),
        "evaluator": ("b:3",),
        "chief": ("a:1",),
    }
    cluster = Cluster(jobs, "worker", 1, visible_gpus=(2, 3))
    assert cluster.describe() == (
        "3 workers on 2 hosts\n"
        "a\n"
        "  chief 0  a:1  chief\n"
        "  worker 1  a:2  this process, of its GPUs 2, 3\n"
        "b\n"
        "  worker 0  b:1\n"
        "  evaluator 0  b:3"
    )
    assert cluster.hosts == {"a": ["a:1", "a:2"], "b": ["b:1", "b:3"]}


def test_one_worker_is_described_in_the_singular():
    assert Cluster.of(["a:1"], 0).describe() == (
        "1 worker on 1 host\na\n  worker 0  a:1  chief, this process"
    )


def test_equal_clusters_are_equal():
    listed = Cluster({"worker": list(WORKERS)}, "worker", 1)
    assert listed == Cluster({"worker": WORKERS}, "worker", 1)
    assert listed != Cluster({"worker": WORKERS}, "worker", 2)


@pytest.mark.parametrize(
    ("jobs", "task", "rule", "received"),
    [
        pytest.param(
            {"worker": ("a:1",), "ps": ("b:2",)},
            ("worker", 0),
            "A job of the cluster must be one of chief, worker, evaluator.",
            "Received: ps. Data-parallel training has no parameter servers",
            id="parameter-server",
        ),
        pytest.param(
            {"worker": ("a:1",), "master": ("b:2",)},
            ("worker", 0),
            "A job of the cluster must be one of chief, worker, evaluator.",
            "Received: master. Call it chief, in the task's type too",
            id="master",
        ),
        pytest.param(
            {"worker": ("a:1",), "chief": ("c:1",), "master": ("b:2",)},
            ("worker", 0),
            "A job of the cluster must be one of chief, worker, evaluator.",
            "Received: master. There is a chief already; list the master as",
            id="master-beside-a-chief",
        ),
        pytest.param(
            {"worker": ("a:1",), "ps": ()},
            ("worker", 0),
            "A job of the cluster must be one of chief, worker, evaluator.",
            "Received: ps. It has no address; leave ps out.",
            id="empty-job",
        ),
        pytest.param(
            {"worker": ("a:1",), "tpu": ("b:2",), "master": ("c:3",)},
            ("worker", 0),
            "A job of the cluster must be one of chief, worker, evaluator.",
            "Received: master, tpu.",
            id="two-unknown-jobs",
        ),
        pytest.param(
            {},
            ("worker", 0),
            "The cluster must name at least one worker.",
            "Received: cluster={}. Example: TF_CONFIG='{",
            id="no-job",
        ),
        pytest.param(
            {"worker": ()},
            ("worker", 0),
            "The cluster must name at least one worker.",
            "Received: cluster={'worker': ()}.",
            id="no-address",
        ),
        pytest.param(
            {"evaluator": ("e:4",)},
            ("evaluator", 0),
            "The cluster must name at least one worker.",
            "Received: cluster={'evaluator': ('e:4',)}.",
            id="evaluator-alone",
        ),
        pytest.param(
            {"chief": ("a:1", "b:2")},
            ("chief", 0),
            "The cluster must have at most one chief.",
            "Received: chief=['a:1', 'b:2']. List the others as workers.",
            id="two-chiefs",
        ),
        pytest.param(
            {"worker": ("a:1",), "evaluator": ("b:2", "c:3")},
            ("worker", 0),
            "The cluster must have at most one evaluator.",
            "Received: evaluator=['b:2', 'c:3']. List the others as workers.",
            id="two-evaluators",
        ),
        pytest.param(
            {"worker": ("a:1", "b:2", "a:1")},
            ("worker", 0),
            "Every address of the cluster must belong to one process.",
            "Received twice: a:1. Give each process a port of its own.",
            id="address-twice-in-a-job",
        ),
        pytest.param(
            {"chief": ("b:2",), "worker": ("a:1", "b:2")},
            ("worker", 0),
            "Every address of the cluster must belong to one process.",
            "Received twice: b:2.",
            id="address-twice-in-two-jobs",
        ),
        pytest.param(
            {"worker": ("a:1",), "evaluator": ("e:4",)},
            ("chief", 0),
            "The task's type must be a job of the cluster.",
            "Received: type='chief', cluster with evaluator, worker.",
            id="task-of-no-job",
        ),
        pytest.param(
            {"worker": ("a:1", "b:2")},
            ("worker", 2),
            "The task's index must be a place in its job's list.",
            "Received: index=2, with 2 worker address(es). Use an index from "
            "0 to 1, or add the missing address.",
            id="index-too-large",
        ),
        pytest.param(
            {"worker": ("a:1", "b:2")},
            ("worker", -1),
            "The task's index must be a place in its job's list.",
            "Received: index=-1, with 2 worker address(es).",
            id="index-negative",
        ),
    ],
)
def test_impossible_cluster_is_refused(jobs, task, rule, received):
    message = message_of(ValueError, Cluster, jobs, *task)
    assert message.startswith(f"{rule} {received}")


@pytest.mark.parametrize(
    "address",
    [
        "a",
        "a:",
        ":1",
        "",
        "a:port",
        "a:0",
        "a:-1",
        "a:65536",
        "a:1.5",
        "a: 1",
        " a:1",
        "a:1:",
        "http://a:1",
        "a:1,b:2",
        "a\0b:1",
        "\ufeffa:1",
        "a\u200b:1",
        "a:1\0",
        "a:٨٠",
        "a:８０",
        "a:1²",
        "a:" + 5000 * "1",
        12345,
        None,
        ["a:1"],
    ],
    ids=lambda address: f"{address!r:.20}",
)
def test_malformed_address_is_refused(address):
    message = message_of(
        ValueError, Cluster, {"worker": (address,)}, "worker", 0
    )
    assert message == (
        "An address of the cluster must be `host:port` with a port from 1 to "
        f"65535. Received: {address!r}."
    )


@pytest.mark.parametrize(
    "address", ["a:1", "a:65535", "10.0.0.1:80", "[::1]:5"]
)
def test_well_formed_address_is_taken(address):
    assert Cluster({"worker": (address,)}, "worker", 0).address == address


@pytest.mark.parametrize(
    "task",
    [
        {"type": "worker", "index": 1},
        {"type": "worker", "index": "1"},
        {"index": 1, "type": "worker", "trial": "x"},
    ],
    ids=["number", "text", "further-key"],
)
def test_tf_config_gives_the_cluster(task):
    cluster = Cluster.from_tf_config(tf_config(task=task))
    assert cluster == Cluster({"worker": ("a:1", "b:2")}, "worker", 1)


def test_further_keys_of_tf_config_are_kept():
    text = tf_config(environment="cloud", rpc_layer="grpc")
    cluster = Cluster.from_tf_config(text)
    assert cluster.extra == {"environment": "cloud", "rpc_layer": "grpc"}
    assert cluster.workers == Cluster.from_tf_config(tf_config()).workers
    assert json.loads(cluster.to_tf_config()) == json.loads(text)


@pytest.mark.parametrize(
    "cluster",
    [
        Cluster.of(["a:1", "b:2"], 1),
        Cluster({"chief": ("c:9",), "worker": ("a:1",)}, "chief", 0),
        Cluster({"worker": ("a:1",)}, "evaluator", 0, {"environment": "x"}),
    ],
    ids=["workers", "chief", "evaluator"],
)
def test_tf_config_of_a_cluster_gives_it_back(cluster):
    assert Cluster.from_tf_config(cluster.to_tf_config()) == cluster


def test_addresses_make_a_cluster_of_workers():
    assert Cluster.of(["a:1", "b:2"], 1) == Cluster(
        {"worker": ("a:1", "b:2")}, "worker", 1
    )
    message = message_of(ValueError, Cluster.of, ["a:1"], 1)
    assert "Received: index=1, with 1 worker address(es)." in message


def test_workers_by_index_are_refused():
    # TensorFlow takes them; with gaps they would have no order.
    text = tf_config(cluster={"worker": {"0": "a:1"}})
    message = message_of(ValueError, Cluster.from_tf_config, text)
    assert "Received: worker={'0': 'a:1'}." in message


@pytest.mark.parametrize(
    ("text", "rule", "received"),
    [
        pytest.param(
            "{'cluster': {}}",
            "TF_CONFIG must be JSON.",
            "Received: {'cluster': {}} (Expecting property name enclosed in "
            "double quotes: line 1 column 2 (char 1)).",
            id="not-json",
        ),
        pytest.param(
            100_000 * "[",
            "TF_CONFIG must be JSON.",
            f"Received: {200 * '['}… (too deep).",
            id="deep-list",
        ),
        pytest.param(
            100_000 * '{"cluster":',
            "TF_CONFIG must be JSON.",
            'Received: {"cluster":{"cluster":',
            id="deep-object",
        ),
        pytest.param(
            5000 * "1",
            "TF_CONFIG must be JSON.",
            f"Received: {200 * '1'}… (Exceeds the limit",
            id="digits",
        ),
        pytest.param(
            "worker",
            "TF_CONFIG must be JSON.",
            "Received: worker (Expecting value: line 1 column 1 (char 0)).",
            id="text",
        ),
        pytest.param(
            "",
            "TF_CONFIG must be JSON.",
            "Received:  (Expecting value",
            id="empty",
        ),
        pytest.param(
            "[1]",
            "TF_CONFIG must have an object `cluster`.",
            "Received: [1].",
            id="list",
        ),
        pytest.param(
            "null",
            "TF_CONFIG must have an object `cluster`.",
            "Received: null.",
            id="null",
        ),
        pytest.param(
            '{"task": {"type": "worker", "index": 0}}',
            "TF_CONFIG must have an object `cluster`.",
            'Received: {"task": {"type": "worker", "index": 0}}.',
            id="no-cluster",
        ),
        pytest.param(
            '{"cluster": ["a:1"], "task": {}}',
            "TF_CONFIG must have an object `cluster`.",
            'Received: {"cluster": ["a:1"], "task": {}}.',
            id="cluster-is-a-list",
        ),
        pytest.param(
            '{"cluster": {"worker": ["a:1"]}}',
            "TF_CONFIG must have an object `task`.",
            'Received: {"cluster": {"worker": ["a:1"]}}.',
            id="no-task",
        ),
        pytest.param(
            '{"cluster": {"worker": ["a:1"]}, "task": 0}',
            "TF_CONFIG must have an object `task`.",
            'Received: {"cluster": {"worker": ["a:1"]}, "task": 0}.',
            id="task-is-a-number",
        ),
        pytest.param(
            '{"cluster": {"worker": "a:1"}, "task": {"type": "worker"}}',
            "A job of TF_CONFIG must be a list of addresses.",
            "Received: worker='a:1'.",
            id="job-is-a-text",
        ),
    ],
)
def test_malformed_tf_config_is_refused(text, rule, received):
    message = message_of(ValueError, Cluster.from_tf_config, text)
    assert message.startswith(f"{rule} {received}")
    assert message.endswith(
        'Example: TF_CONFIG=\'{"cluster": {"worker": '
        '["host0:12345", "host1:12345"]}, '
        '"task": {"type": "worker", "index": 0}}\''
    )


def test_a_byte_order_mark_before_tf_config_is_named(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", '\ufeff{"cluster": {}}')
    message = message_of(ValueError, Cluster.from_environment)
    assert message.startswith(
        "TF_CONFIG must be JSON. Received: a byte-order mark (U+FEFF) before "
        '{"cluster": {}}.'
    )


def test_thousands_of_workers_are_read_in_no_time():
    addresses = [f"host{i}:12345" for i in range(20_000)]
    began = time.process_time()
    cluster = Cluster.of(addresses, 19_999)
    again = Cluster.from_tf_config(cluster.to_tf_config())
    assert again.index == 19_999
    assert len(again.peers) == 19_999
    assert len(again.describe().splitlines()) == 40_001
    nodes = Nodes(tuple(addresses), 0)
    assert nodes.addresses == tuple(addresses)
    with pytest.raises(ValueError, match="Received twice: host7:12345"):
        Cluster.of([*addresses, addresses[7]], 0)
    assert time.process_time() - began < 8


@pytest.mark.parametrize(
    "index",
    [None, 1.0, True, False, "", "one", "-1", "1.0", "٠", "²", [0], {}],
    ids=repr,
)
def test_index_of_the_task_must_be_an_integer(index):
    text = tf_config(task={"type": "worker", "index": index})
    message = message_of(ValueError, Cluster.from_tf_config, text)
    assert message.startswith(
        f"The task must have an integer index. Received: index={index!r}. "
        "Example: "
    )


def test_task_without_index_is_refused():
    text = tf_config(task={"type": "worker"})
    message = message_of(ValueError, Cluster.from_tf_config, text)
    assert "must have an integer index" in message
    assert "Received: index=None." in message


@pytest.mark.parametrize(
    ("task", "received"),
    [
        ({"index": 0}, "Received: type='', cluster with worker."),
        ({"type": None, "index": 0}, "Received: type=None, cluster with"),
        ({"type": "ps", "index": 0}, "Received: type='ps', cluster with"),
    ],
    ids=["missing", "null", "other"],
)
def test_type_of_the_task_must_be_a_job_of_tf_config(task, received):
    message = message_of(
        ValueError, Cluster.from_tf_config, tf_config(task=task)
    )
    assert message.startswith("The task's type must be a job of the cluster. ")
    assert received in message


def test_type_of_the_task_must_be_a_text():
    text = tf_config(task={"type": ["worker"], "index": 0})
    message = message_of(ValueError, Cluster.from_tf_config, text)
    assert "Received: type=['worker']" in message


def test_long_tf_config_is_shortened_in_the_message():
    message = message_of(ValueError, Cluster.from_tf_config, "x" * 1000)
    assert f"Received: {'x' * 200}… (Expecting value" in message


@pytest.fixture(autouse=True)
def _nothing_is_set(monkeypatch):
    names = ("CUDA_VISIBLE_DEVICES", "TF_CONFIG", "TFDP_", "SLURM_")
    for name in [name for name in os.environ if name.startswith(names)]:
        monkeypatch.delenv(name)


@pytest.fixture
def step(monkeypatch):
    """This process as task 3 of 4, two on each of two nodes."""
    variables = {
        "SLURM_JOB_ID": "41",
        "SLURM_STEP_ID": "2",
        "SLURM_PROCID": "3",
        "SLURM_LOCALID": "1",
        "SLURM_NODEID": "1",
        "SLURM_STEP_NUM_TASKS": "4",
        "SLURM_STEP_NODELIST": "n[1-2]",
        "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
        "SLURM_STEP_GPUS": "4,5,6,7",
        "CUDA_VISIBLE_DEVICES": "0,1,2,3",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return variables


def test_a_step_of_slurm_gives_the_cluster(step, monkeypatch):
    monkeypatch.setenv("TFDP_PORT", "7000")
    cluster = Cluster.from_environment()
    assert cluster == Cluster(
        {"worker": ("n1:7000", "n1:7001", "n2:7000", "n2:7001")},
        "worker",
        3,
        visible_gpus=(2, 3),
    )
    assert source() == "Slurm, step 41.2"


def test_a_malformed_step_of_slurm_is_refused(step, monkeypatch):
    monkeypatch.setenv("SLURM_NODEID", "0")
    message = message_of(ValueError, Cluster.from_environment)
    assert "`srun --distribution=block`" in message


def test_tf_config_counts_more_than_slurm(step, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", tf_config())
    assert Cluster.from_environment() == Cluster.of(["a:1", "b:2"], 0)
    assert source() == "TF_CONFIG"


def test_an_empty_object_makes_a_task_of_slurm_one_process(step, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "{}")
    assert Cluster.from_environment() is None


def test_a_batch_script_is_one_process_until_srun(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "41")
    monkeypatch.setenv("SLURM_PROCID", "0")
    monkeypatch.setenv("SLURM_NTASKS", "4")
    assert Cluster.from_environment() is None
    assert source() == (
        "a Slurm job of 4 tasks, but not in srun, which starts them all"
    )


@pytest.mark.parametrize("text", [None, "", "  \n", "{}", " {} "], ids=repr)
def test_no_tf_config_is_a_job_of_one_process(monkeypatch, text):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if text is not None:
        monkeypatch.setenv("TF_CONFIG", text)
    assert Cluster.from_environment() is None


@pytest.mark.parametrize("text", ["{ }", '{"environment": "cloud"}'])
def test_tf_config_of_neither_cluster_nor_task_is_one_process(
    monkeypatch, text
):
    monkeypatch.setenv("TF_CONFIG", text)
    assert Cluster.from_environment() is None


def test_environment_gives_the_cluster(monkeypatch):
    monkeypatch.setenv(
        "TF_CONFIG", tf_config(task={"type": "worker", "index": 1})
    )
    cluster = Cluster.from_environment()
    assert cluster == Cluster({"worker": ("a:1", "b:2")}, "worker", 1)


def test_malformed_environment_is_refused(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "worker")
    message = message_of(ValueError, Cluster.from_environment)
    assert message.startswith("TF_CONFIG must be JSON. Received: worker (")


def on_port(port, index=0):
    addresses = ["other:1", "other:2"]
    addresses[index] = f"127.0.0.1:{port}"
    return Cluster({"worker": addresses}, "worker", index)


@pytest.fixture
def free_port():
    with socket.create_server(("", 0)) as server:
        return server.getsockname()[1]


@pytest.fixture(params=["", "127.0.0.1"], ids=["any-address", "loopback"])
def held_port(request):
    """A port that another process listens on, and that process's id."""
    code = (
        "import socket, sys\n"
        f"server = socket.create_server(({request.param!r}, 0))\n"
        "print(server.getsockname()[1], flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield int(process.stdout.readline()), process.pid
        process.stdin.close()


def test_port_of_another_process_is_refused_by_its_name(held_port):
    port, pid = held_port
    message = message_of(RuntimeError, on_port(port, index=1).check_port)
    assert message.startswith(
        "A worker must be able to listen on its own port. Received: "
        f"address=127.0.0.1:{port}, worker 1: "
    )
    name = re.escape(psutil.Process(pid).name())
    assert re.search(rf"held by {name} \(process {pid}\)\. End that", message)
    assert "in use" in message


def test_port_of_a_process_that_cannot_be_seen_is_refused(
    held_port, monkeypatch
):
    def hidden(kind):
        raise psutil.AccessDenied()

    monkeypatch.setattr(psutil, "net_connections", hidden)
    port, _ = held_port
    message = message_of(RuntimeError, on_port(port).check_port)
    assert f"Received: address=127.0.0.1:{port}, worker 0: " in message
    assert "held by" not in message


def test_a_process_that_only_talks_on_the_port_is_not_blamed(
    held_port, monkeypatch
):
    port, pid = held_port
    connections = [
        types.SimpleNamespace(
            status=status, laddr=types.SimpleNamespace(port=port), pid=owner
        )
        for status, owner in [
            (psutil.CONN_ESTABLISHED, os.getpid()),
            (psutil.CONN_LISTEN, pid),
        ]
    ]
    monkeypatch.setattr(psutil, "net_connections", lambda kind: connections)
    message = message_of(RuntimeError, on_port(port).check_port)
    assert f"(process {pid})" in message
    assert f"(process {os.getpid()})" not in message


def test_port_held_by_this_process_is_fine():
    # TensorFlow's server stays for as long as the process.
    with socket.create_server(("", 0)) as server:
        on_port(server.getsockname()[1]).check_port()


def test_free_port_is_fine_and_stays_free(free_port):
    cluster = on_port(free_port)
    cluster.check_port()
    cluster.check_port()
    socket.create_server(("", free_port)).close()


def test_port_that_is_not_permitted_is_refused(monkeypatch):
    def refuse(port):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(listening, "everywhere", refuse)
    message = message_of(RuntimeError, on_port(80).check_port)
    assert message == (
        "A worker must be able to listen on its own port. Received: "
        "address=127.0.0.1:80, worker 0: Permission denied. End that process, "
        "or give the worker a free port in the TF_CONFIG of every worker, or "
        "all of them by TFDP_PORT, where tfdp chooses it."
    )


def test_only_the_own_port_is_checked(held_port, free_port):
    port, _ = held_port
    cluster = Cluster(
        {"worker": (f"127.0.0.1:{free_port}", f"127.0.0.1:{port}")}, "worker", 0
    )
    cluster.check_port()


@pytest.mark.parametrize(
    ("address", "meant"),
    [
        ("::1:2222", "'[::1]:2222'"),
        ("2001:db8::7:2222", "'[2001:db8::7]:2222'"),
        ("fe80::1%eth0:2222", "'[fe80::1%eth0]:2222'"),
        ("[::1", "'[::1]:PORT'"),
        ("2001:db8:0:0:0:0:0:7", "'[2001:db8:0:0:0:0:0:7]:PORT'"),
        ("[127.0.0.1]:2222", "'[ADDRESS]:PORT'"),
        ("[a]:2222", "'[ADDRESS]:PORT'"),
    ],
)
def test_ipv6_without_its_brackets_is_refused_with_the_right_form(
    address, meant
):
    message = message_of(
        ValueError, Cluster, {"worker": (address,)}, "worker", 0
    )
    assert message.startswith(
        "An IPv6 address of the cluster must stand in brackets, with its port "
        f"after them. Received: {address!r}. Use {meant}, as in "
    )


def test_an_address_of_ipv6_may_name_its_interface():
    assert Cluster.of(["[fe80::1%eth0]:2222"], 0).hosts == {
        "[fe80::1%eth0]": ["[fe80::1%eth0]:2222"]
    }


@pytest.mark.parametrize(
    ("addresses", "is_local"),
    [
        (["127.0.0.1:1", "[::1]:1", "localhost:2"], True),
        (["127.0.0.1:1", "b:1"], False),
        (["10.0.0.1:1", "10.0.0.1:2"], False),
        (["0.0.0.0:1"], False),
    ],
)
def test_a_cluster_is_local_if_all_workers_are_on_loopback(addresses, is_local):
    assert Cluster.of(addresses, 0).is_local == is_local


def test_a_port_that_is_held_on_ipv6_alone_is_not_free(monkeypatch):
    try:
        server = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("no IPv6 here")
    monkeypatch.setattr("tfdp.machine.ports.own_ports", set)
    with server:
        port = server.getsockname()[1]
        cluster = Cluster.of([f"[::1]:{port}"], 0)
        message = message_of(RuntimeError, cluster.check_port)
    assert f"address=[::1]:{port}, worker 0: Address already in use" in message
