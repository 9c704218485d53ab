"""What schedulers and launchers tell, from nothing but their variables.

The values are those of their own documentation, as the docstrings of
`tfdp.cluster.environments` cite it.
"""

import json
import os

import pytest

from tfdp.cluster import source
from tfdp.cluster.cluster import Cluster
from tfdp.cluster.environment import whereabouts
from tfdp.cluster.environments import torchrun
from tfdp.cluster.environments.claim import Claim, chosen
from tfdp.cluster.roll_call.appointment import Appointment

TORCHRUN = {
    "LOCAL_RANK": "1",
    "RANK": "3",
    "GROUP_RANK": "1",
    "ROLE_RANK": "3",
    "LOCAL_WORLD_SIZE": "2",
    "WORLD_SIZE": "4",
    "ROLE_WORLD_SIZE": "4",
    "MASTER_ADDR": "node1.example.com",
    "MASTER_PORT": "29400",
    "TORCHELASTIC_RESTART_COUNT": "0",
    "TORCHELASTIC_MAX_RESTARTS": "3",
    "TORCHELASTIC_RUN_ID": "job-7",
    "TORCHELASTIC_USE_AGENT_STORE": "True",
}
OPEN_MPI = {
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_RANK": "2",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
    "OMPI_COMM_WORLD_LOCAL_RANK": "0",
    "OMPI_UNIVERSE_SIZE": "4",
    "OMPI_COMM_WORLD_NODE_RANK": "0",
    "MASTER_ADDR": "node1",
}
HYDRA = {
    "PMI_RANK": "1",
    "PMI_SIZE": "2",
    "MPI_LOCALRANKID": "1",
    "MPI_LOCALNRANKS": "2",
    "MASTER_ADDR": "node1",
    "MASTER_PORT": "7000",
}
TRAINJOB = {
    "PET_NNODES": "4",
    "PET_NPROC_PER_NODE": "auto",
    "PET_NODE_RANK": "2",
    "PET_MASTER_ADDR": "train-node-0-0.train",
    "PET_MASTER_PORT": "29500",
    "JOB_COMPLETION_INDEX": "2",
}
INDEXED_JOB = {
    "JOB_COMPLETION_INDEX": "2",
    "TFDP_WORKERS": "3",
    "JOB_NAME": "example-job",
    "TFDP_SUBDOMAIN": "headless-svc",
}
JOBSET = {
    "JOB_COMPLETION_INDEX": "1",
    "TFDP_WORKERS": "4",
    "JOBSET_NAME": "network-jobset",
    "REPLICATED_JOB_NAME": "workers",
    "JOB_INDEX": "1",
    "REPLICATED_JOB_REPLICAS": "2",
    "TFDP_SUBDOMAIN": "example",
}
SAGEMAKER = {
    "SM_HOSTS": '["algo-1","algo-2"]',
    "SM_CURRENT_HOST": "algo-2",
    "SM_RESOURCE_CONFIG": (
        '{"current_host":"algo-2","hosts":["algo-1","algo-2"]}'
    ),
    "SM_NUM_GPUS": "1",
}
POOLS = {
    "workerpool0": ["cmle-training-workerpool0-ab-0:2222"],
    "workerpool1": [
        "cmle-training-workerpool1-ab-0:2222",
        "cmle-training-workerpool1-ab-1:2222",
    ],
    "workerpool3": ["cmle-training-workerpool3-ab-0:2222"],
}
SLURM = {
    "SLURM_JOB_ID": "41",
    "SLURM_STEP_ID": "2",
    "SLURM_PROCID": "1",
    "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_STEP_NODELIST": "n[1-2]",
    "SLURM_STEP_TASKS_PER_NODE": "1(x2)",
}


def vertex(task="workerpool1", index=1, **pools):
    spec = {
        "cluster": {**POOLS, **pools},
        "environment": "cloud",
        "task": {"type": task, "index": index, "trial": "TRIAL_ID"},
        "job": {},
    }
    return {"CLUSTER_SPEC": json.dumps(spec)}


@pytest.fixture
def told(monkeypatch):
    """Sets the variables of an environment, and no other."""

    def tell(*environments, **others):
        for environment in (*environments, others):
            for name, value in environment.items():
                if value is None:
                    monkeypatch.delenv(name, raising=False)
                else:
                    monkeypatch.setenv(name, value)

    heads = ("SLURM_", "TFDP_", "OMPI_", "PMI_", "MPI_", "PET_", "SM_", "JOB")
    heads += ("TORCH", "MASTER_", "LOCAL_", "RANK", "WORLD_", "CLUSTER_SPEC")
    heads += ("TF_CONFIG", "CUDA_VISIBLE", "REPLICATED_")
    for name in [n for n in os.environ if n.startswith(heads)]:
        monkeypatch.delenv(name)
    return tell


def message_of():
    with pytest.raises(ValueError, match="Received: ") as caught:
        Cluster.from_environment()
    return str(caught.value)


def test_torchrun_tells_where_workers_meet(told):
    told(TORCHRUN)
    assert whereabouts() == Appointment(
        # Its own store listens at the port before.
        "node1.example.com:29401",
        size=4,
        rank=3,
        name="job-7, 0",
        source="torchrun's variables",
    )
    assert source() == "torchrun's variables"


@pytest.mark.parametrize(
    ("others", "address"),
    [
        ({"TORCHELASTIC_USE_AGENT_STORE": "False"}, "node1.example.com:29400"),
        ({"MASTER_PORT": "65535"}, "node1.example.com:65534"),
        ({"TFDP_PORT": "7000"}, "node1.example.com:7000"),
        ({"MASTER_ADDR": "fe80::1"}, "[fe80::1]:29401"),
        (
            {"MASTER_PORT": None, "TORCHELASTIC_USE_AGENT_STORE": None},
            "node1.example.com:29500",
        ),
    ],
)
def test_the_port_to_meet_at_follows_from_that_of_torchrun(
    told, others, address
):
    told(TORCHRUN, **others)
    assert whereabouts().address == address


def test_another_attempt_of_torchrun_is_another_meeting(told):
    told(TORCHRUN)
    first = whereabouts()
    told(TORCHELASTIC_RESTART_COUNT="1")
    assert whereabouts() != first


def test_workers_of_a_machine_share_the_gpus_that_all_see(told):
    told(TORCHRUN, CUDA_VISIBLE_DEVICES="0,1,2,3")
    assert whereabouts().visible_gpus == (2, 3)
    told(CUDA_VISIBLE_DEVICES="3")
    assert whereabouts().visible_gpus is None
    told(CUDA_VISIBLE_DEVICES="0,1", LOCAL_RANK="2")
    assert message_of().startswith(
        "LOCAL_RANK must be a place among those of LOCAL_WORLD_SIZE. "
        "Received: LOCAL_RANK=2, LOCAL_WORLD_SIZE=2."
    )


@pytest.mark.parametrize(
    ("environment", "rank", "size", "address", "name"),
    [
        (OPEN_MPI, 2, 4, "node1:29500", "Open MPI's variables"),
        (HYDRA, 1, 2, "node1:7000", "MPI's variables"),
    ],
    ids=["open-mpi", "hydra"],
)
def test_mpi_tells_ranks_and_is_handed_an_address(
    told, environment, rank, size, address, name
):
    told(environment)
    found = whereabouts()
    assert (found.rank, found.size, found.address) == (rank, size, address)
    assert source() == name


def test_mpi_without_an_address_is_refused(told):
    told(OPEN_MPI, MASTER_ADDR=None)
    assert message_of() == (
        "Workers that do not know each other's addresses must be told where to "
        "meet. Received: Open MPI's variables of worker 2 of 4, without "
        "MASTER_ADDR, the machine of the first worker. Set it for all of them "
        "(`mpirun -x MASTER_ADDR=HOST -x MASTER_PORT=PORT`), or start them by "
        "`tfdp launch --rendezvous HOST:PORT`; TF_CONFIG='{}' is a job of one "
        "process."
    )


def test_nodes_of_a_trainjob_meet_at_the_first(told):
    told(TRAINJOB)
    found = whereabouts()
    assert (found.rank, found.size) == (2, 4)
    assert found.address == "train-node-0-0.train:29500"
    assert source() == "the TrainJob's variables"


def test_a_trainjob_of_a_range_of_nodes_is_refused(told):
    told(TRAINJOB, PET_NNODES="1:4")
    assert "PET_NNODES must be a whole number" in message_of()


def test_pods_of_an_indexed_job_know_each_other_by_name(told):
    told(INDEXED_JOB)
    assert Cluster.from_environment() == Cluster.of(
        [f"example-job-{index}.headless-svc:2222" for index in range(3)], 2
    )
    assert source() == "the Indexed Job's variables"


def test_pods_of_a_jobset_know_each_other_by_name(told):
    told(JOBSET, TFDP_PORT="7000")
    assert Cluster.from_environment() == Cluster.of(
        [
            "network-jobset-workers-0-0.example:7000",
            "network-jobset-workers-0-1.example:7000",
            "network-jobset-workers-1-0.example:7000",
            "network-jobset-workers-1-1.example:7000",
        ],
        3,
    )
    assert source() == "the JobSet's variables"


def test_a_jobset_has_a_subdomain_of_its_own_name(told):
    told(JOBSET, TFDP_SUBDOMAIN=None)
    assert Cluster.from_environment().address == (
        "network-jobset-workers-1-1.network-jobset:2222"
    )


def test_an_indexed_job_of_pods_apart_is_one_process_each(told):
    told(INDEXED_JOB, TFDP_WORKERS=None)
    assert Cluster.from_environment() is None
    assert source() == (
        "a pod of an Indexed Job, but not TFDP_WORKERS, which says how many of "
        "its pods are workers"
    )


@pytest.mark.parametrize("name", ["JOB_NAME", "TFDP_SUBDOMAIN"])
def test_a_pod_without_a_name_is_told_where_it_comes_from(told, name):
    told(INDEXED_JOB, **{name: None})
    assert message_of().startswith(
        f"{name} must be set beside TFDP_WORKERS. Received: {name}=''. Hand it "
        "on from the labels of the pod"
    )


@pytest.mark.parametrize(
    ("others", "received"),
    [
        ({"TFDP_WORKERS": "5"}, "TFDP_WORKERS=5 with 2 job(s), in pod 1 of"),
        ({"TFDP_WORKERS": "2"}, "TFDP_WORKERS=2 with 2 job(s), in pod 1 of"),
        ({"JOB_INDEX": "2"}, "with 2 job(s), in pod 1 of job 2."),
        ({"REPLICATED_JOB_REPLICAS": "0"}, "with 0 job(s)"),
        ({"TFDP_WORKERS": "99999998"}, "TFDP_WORKERS=99999998 with"),
    ],
)
def test_pods_that_are_not_as_many_as_workers_are_refused(
    told, others, received
):
    told(JOBSET, **others)
    message = message_of()
    assert message.startswith("TFDP_WORKERS must be the number of all pods")
    assert received in message


@pytest.mark.parametrize(
    "without",
    [(), ("SM_RESOURCE_CONFIG",), ("SM_HOSTS", "SM_CURRENT_HOST")],
)
def test_containers_of_sagemaker_know_each_other_by_name(told, without):
    told(SAGEMAKER, **dict.fromkeys(without))
    expected = Cluster.of(["algo-1:2222", "algo-2:2222"], 1)
    assert Cluster.from_environment() == expected
    assert source() == "SageMaker's variables"


def test_hosts_of_sagemaker_have_one_order(told):
    told(SAGEMAKER, SM_HOSTS='["algo-2", "algo-1"]', SM_RESOURCE_CONFIG=None)
    assert Cluster.from_environment().workers == ("algo-1:2222", "algo-2:2222")


@pytest.mark.parametrize(
    ("others", "rule"),
    [
        ({"SM_HOSTS": "algo-1"}, "SM_HOSTS must be JSON. Received: SM_HOSTS="),
        ({"SM_HOSTS": "{}"}, "SM_HOSTS must list all hosts, the current one"),
        ({"SM_HOSTS": "[1]"}, "SM_HOSTS must list all hosts, the current one"),
        ({"SM_CURRENT_HOST": "algo-3"}, "Received: hosts=['algo-1', 'algo-2']"),
        (
            {"SM_RESOURCE_CONFIG": "[]"},
            "SM_RESOURCE_CONFIG must list all hosts",
        ),
        (
            {"SM_CURRENT_HOST": "algo-1"},
            "SM_HOSTS and SM_RESOURCE_CONFIG must say the same. Received: "
            "SM_HOSTS: algo-1 of ['algo-1', 'algo-2'], SM_RESOURCE_CONFIG: "
            "algo-2 of ['algo-1', 'algo-2'].",
        ),
    ],
)
def test_malformed_variables_of_sagemaker_are_refused(told, others, rule):
    told(SAGEMAKER, **others)
    assert rule in message_of()


def test_pools_of_vertex_are_chief_workers_and_evaluator(told):
    told(vertex())
    cluster = Cluster.from_environment()
    assert cluster.jobs == {
        "chief": tuple(POOLS["workerpool0"]),
        "worker": tuple(POOLS["workerpool1"]),
        "evaluator": tuple(POOLS["workerpool3"]),
    }
    assert (cluster.index, cluster.num_workers) == (2, 3)
    assert source() == "CLUSTER_SPEC"
    told(vertex("workerpool0", 0))
    assert Cluster.from_environment().is_chief
    told(vertex("workerpool3", "0"))
    assert not Cluster.from_environment().is_training


def test_a_pool_that_cannot_train_is_refused(told):
    told(vertex(workerpool2=["reducer:2222"]))
    assert message_of().startswith(
        "Data-parallel training has no parameter servers and no reducers. "
        "Received: CLUSTER_SPEC with workerpool2."
    )


@pytest.mark.parametrize(
    "text",
    [
        "x",
        "[]",
        "{}",
        '{"cluster": {"workerpool0": "a:1"}, "task": {"type": "workerpool0"}}',
        '{"cluster": {"workerpool0": ["a:1"]}, "task": {"type": "x"}}',
        '{"cluster": {"workerpool0": ["a:1"]}, "task": {"type": "workerpool0",'
        ' "index": 1}}',
        '{"cluster": {"workerpool0": ["a:1"]}, "task": {"type": "workerpool0",'
        ' "index": "x"}}',
    ],
)
def test_malformed_cluster_specs_are_refused(told, text):
    told(CLUSTER_SPEC=text)
    assert message_of().startswith("CLUSTER_SPEC must be JSON with `cluster`")


@pytest.mark.parametrize(
    "environment",
    [
        {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "a"},
        {"RANK": "0"},
        {"WORLD_SIZE": "8"},
        {"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "1"},
        {**TRAINJOB, "PET_NNODES": "1", "PET_NODE_RANK": "0"},
        {**INDEXED_JOB, "TFDP_WORKERS": "1"},
        {"SM_HOSTS": '["algo-1"]', "SM_CURRENT_HOST": "algo-1"},
        vertex("workerpool0", 0, workerpool1=[], workerpool3=[]),
    ],
)
def test_one_worker_is_a_job_of_one_process(told, environment):
    told(environment)
    assert Cluster.from_environment() is None


@pytest.mark.parametrize("text", ["", "x", "-1", "1.5", "٣", "9" * 30])
@pytest.mark.parametrize(
    ("environment", "name"),
    [
        (TORCHRUN, "RANK"),
        (TORCHRUN, "WORLD_SIZE"),
        (OPEN_MPI, "OMPI_COMM_WORLD_SIZE"),
        (TRAINJOB, "PET_NODE_RANK"),
        (JOBSET, "JOB_INDEX"),
    ],
)
def test_numbers_that_are_none_are_refused(told, environment, name, text):
    told(environment, **{name: text})
    if not text and name != "JOB_INDEX":
        assert Cluster.from_environment() is None
        return
    assert message_of().startswith(
        f"{name} must be a whole number. Received: {name}={text!r}."
    )


def test_a_rank_beyond_the_last_is_refused(told):
    told(TORCHRUN, RANK="4")
    assert message_of().startswith(
        "RANK must be a place among those of WORLD_SIZE. Received: RANK=4, "
        "WORLD_SIZE=4."
    )


@pytest.mark.parametrize(
    ("environment", "name"),
    [(TORCHRUN, "MASTER_PORT"), (TORCHRUN, "TFDP_PORT"), (JOBSET, "TFDP_PORT")],
)
@pytest.mark.parametrize("text", ["0", "65536", "x"])
def test_ports_that_are_none_are_refused(told, environment, name, text):
    told(environment, **{name: text})
    assert message_of().startswith(
        f"{name} must be a port from 1 to 65535. Received: {name}={text!r}."
    )


def test_a_malformed_address_to_meet_at_is_refused(told):
    told(TORCHRUN, MASTER_ADDR="http://a")
    assert "must be `host:port`" in message_of() or "IPv6" in message_of()


ALL = [TORCHRUN, OPEN_MPI, TRAINJOB, INDEXED_JOB, SAGEMAKER, SLURM, vertex()]


@pytest.mark.parametrize("environment", ALL)
def test_tf_config_counts_before_all(told, environment):
    told(environment, TF_CONFIG=Cluster.of(["a:1", "b:2"], 1).to_tf_config())
    assert Cluster.from_environment() == Cluster.of(["a:1", "b:2"], 1)
    assert source() == "TF_CONFIG"
    told(TF_CONFIG="{}")
    assert Cluster.from_environment() is None


def test_where_all_agree_who_has_told_addresses_counts(told):
    """As in a script of Slurm that exports what PyTorch reads."""
    told(SLURM, RANK="1", WORLD_SIZE="2", MASTER_ADDR="n1")
    told(PMI_RANK="1", PMI_SIZE="2")
    assert Cluster.from_environment().num_workers == 2
    assert source() == "Slurm, step 41.2"


@pytest.mark.parametrize("inner", [TORCHRUN, OPEN_MPI], ids=["torch", "mpi"])
@pytest.mark.parametrize(
    "outer", [SLURM, SAGEMAKER, INDEXED_JOB], ids=["slurm", "sm", "job"]
)
def test_a_launcher_inside_of_a_scheduler_counts(told, inner, outer):
    told(outer, inner)
    assert whereabouts().size == 4


def test_variables_that_no_launcher_has_set_must_agree(told):
    told(SLURM, RANK="0", WORLD_SIZE="2", MASTER_ADDR="n1")
    assert message_of() == (
        "Only one environment may say who the workers are, or all must say the "
        "same. Received: Slurm, step 41.2 (worker 1 of 2), and torchrun's "
        "variables (worker 0 of 2). Unset the variables of one, or set "
        "TF_CONFIG, which counts before all; TF_CONFIG='{}' is a job of one "
        "process."
    )


def test_two_launchers_that_disagree_are_both_named(told):
    told(TORCHRUN, OPEN_MPI, MASTER_ADDR="n1")
    message = message_of()
    assert "torchrun's variables (worker 3 of 4)" in message
    assert "Open MPI's variables (worker 2 of 4)" in message


def test_two_schedulers_that_disagree_are_both_named(told):
    told(SAGEMAKER, INDEXED_JOB)
    message = message_of()
    assert "the Indexed Job's variables (worker 2 of 3)" in message
    assert "SageMaker's variables (worker 1 of 2)" in message


def test_of_no_claims_none_is_chosen():
    assert chosen([]) is None
    assert chosen([Claim("a", 0, 2, ""), Claim("b", 0, 2, "")]).source == "a"


def test_claims_are_made_of_a_mapping_alone():
    assert torchrun.claim({}) is None


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"size": 0}, "workers_total"),
        ({"size": 70_000}, "workers_total"),
        ({"size": 2, "count": 0}, "workers"),
        ({"size": 2, "count": 3}, "A launcher's workers are some of the job's"),
        ({"size": 2, "rank": 2}, "A rank must be the place of a worker"),
        ({"size": 2, "address": "a"}, "must be `host:port`"),
    ],
)
def test_impossible_appointments_are_refused(options, rule):
    with pytest.raises(ValueError, match=rule):
        Appointment(**{"address": "a:1", **options})


@pytest.mark.parametrize("options", [{"size": "2"}, {"size": 2, "count": 1.0}])
def test_appointments_of_no_number_are_refused(options):
    with pytest.raises(TypeError):
        Appointment("a:1", **options)
