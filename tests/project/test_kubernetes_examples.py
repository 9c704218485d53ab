"""Manifests for Kubernetes, which is not here: what can be checked.

`schemas/` has those parts of the published schemas that the manifests use:
every name that may stand beside theirs is there, so that a wrong one is found.
"""

import copy
import json
import pathlib
import re

import pytest
from places import ROOT

from tfdp.cluster.cluster import Cluster
from tfdp.cluster.environments import kubernetes, trainjob
from tfdp.cluster.tf_config import Place

KUBERNETES = ROOT / "examples" / "kubernetes"
SCHEMAS = pathlib.Path(__file__).parent / "schemas"
yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
jsonschema = pytest.importorskip("jsonschema", reason="it is not installed")

# Manifest, document in it, and schema.
CHECKED = [
    ("jobset.yaml", "JobSet", "jobset.json"),
    ("indexed_job.yaml", "Job", "job.json"),
    ("trainjob.yaml", "TrainJob", "trainjob.json"),
    ("trainjob.yaml", "TrainingRuntime", "training_runtime.json"),
]
MANIFESTS = ["jobset.yaml", "indexed_job.yaml", "trainjob.yaml"]


def documents(manifest):
    text = (KUBERNETES / manifest).read_text()
    return {each["kind"]: each for each in yaml.safe_load_all(text)}


def pod_of(manifest):
    """The template of a worker's pod."""
    found = documents(manifest)
    if manifest == "indexed_job.yaml":
        return found["Job"]["spec"]["template"]
    spec = found["JobSet"]["spec"] if "JobSet" in found else None
    if spec is None:
        spec = found["TrainingRuntime"]["spec"]["template"]["spec"]
    (job,) = spec["replicatedJobs"]
    return job["template"]["spec"]["template"]


def told(manifest, labels):
    """What a pod finds in its environment, given its labels."""
    (container,) = pod_of(manifest)["spec"]["containers"]
    variables = {}
    for each in container["env"]:
        if "value" in each:
            variables[each["name"]] = each["value"]
        elif "fieldRef" in each["valueFrom"]:
            path = each["valueFrom"]["fieldRef"]["fieldPath"]
            (label,) = re.fullmatch(
                r"metadata\.labels\['(.*)'\]", path
            ).groups()
            variables[each["name"]] = labels[label]
    return variables


@pytest.mark.parametrize(("manifest", "kind", "schema"), CHECKED)
def test_a_manifest_has_the_published_schema(manifest, kind, schema):
    published = json.loads((SCHEMAS / schema).read_text())
    document = documents(manifest)[kind]
    assert published["kind"] == kind
    assert document["apiVersion"] == published["apiVersion"]
    jsonschema.validate(document, published["schema"])


@pytest.mark.parametrize(("manifest", "kind", "schema"), CHECKED)
def test_a_name_that_is_not_in_the_schema_is_found(manifest, kind, schema):
    published = json.loads((SCHEMAS / schema).read_text())["schema"]
    for place in every_object(documents(manifest)[kind]["spec"]):
        document = copy.deepcopy(documents(manifest)[kind])
        inner = document["spec"]
        for step in place:
            inner = inner[step]
        inner["noSuchField"] = 1
        with pytest.raises(
            jsonschema.ValidationError, match="noSuchField|1 is"
        ):
            jsonschema.validate(document, published)


def every_object(value, place=()):
    if isinstance(value, dict):
        yield place
        for name, inner in value.items():
            # Names of labels, of variables and resources are free.
            if name not in ("annotations", "labels", "requests", "limits"):
                yield from every_object(inner, (*place, name))
    if isinstance(value, list):
        for index, inner in enumerate(value):
            yield from every_object(inner, (*place, index))


@pytest.mark.parametrize("manifest", ["jobset.yaml", "indexed_job.yaml"])
def test_there_are_as_many_pods_as_workers(manifest):
    found = documents(manifest)
    job = found.get("Job")
    if job is None:
        (replicated,) = found["JobSet"]["spec"]["replicatedJobs"]
        assert replicated["replicas"] == 1
        job = replicated["template"]
    spec = job["spec"]
    assert spec["completionMode"] == "Indexed"
    (container,) = spec["template"]["spec"]["containers"]
    (count,) = (
        int(each["value"])
        for each in container["env"]
        if each["name"] == "TFDP_WORKERS"
    )
    assert spec["completions"] == spec["parallelism"] == count


def test_pods_of_the_jobset_make_a_cluster():
    # As labelAndAnnotateObject of pkg/controllers/jobset_controller.go has it.
    labels = {
        "jobset.sigs.k8s.io/jobset-name": "train",
        "jobset.sigs.k8s.io/replicatedjob-name": "worker",
        "jobset.sigs.k8s.io/replicatedjob-replicas": "1",
        "jobset.sigs.k8s.io/job-index": "0",
    }
    variables = told("jobset.yaml", labels)
    claim = kubernetes.claim({**variables, "JOB_COMPLETION_INDEX": "2"})
    assert Cluster(*claim.place) == Cluster.of(
        [f"train-worker-0-{index}.train:2222" for index in range(4)], 2
    )


def test_pods_of_the_indexed_job_make_a_cluster():
    service = documents("indexed_job.yaml")["Service"]
    pod = pod_of("indexed_job.yaml")["spec"]
    assert service["spec"]["clusterIP"] == "None"
    assert pod["subdomain"] == service["metadata"]["name"]
    labels = {"batch.kubernetes.io/job-name": "train"}
    assert service["spec"]["selector"] == labels
    variables = told("indexed_job.yaml", labels)
    claim = kubernetes.claim({**variables, "JOB_COMPLETION_INDEX": "3"})
    assert isinstance(claim.place, Place)
    assert Cluster(*claim.place) == Cluster.of(
        [
            f"train-{index}.{service['metadata']['name']}:2222"
            for index in range(4)
        ],
        3,
    )


def test_nodes_of_the_trainjob_are_told_where_to_meet():
    found = documents("trainjob.yaml")
    job, runtime = found["TrainJob"], found["TrainingRuntime"]
    assert job["spec"]["runtimeRef"] == {
        "apiGroup": runtime["apiVersion"].partition("/")[0],
        "kind": runtime["kind"],
        "name": runtime["metadata"]["name"],
    }
    # As EnforceMLPolicy of pkg/runtime/framework/plugins/torch/torch.go has
    # it, for a job with a trainer, whose container is called node.
    assert runtime["spec"]["mlPolicy"]["torch"] == {}
    (replicated,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    assert replicated["name"] == "node"
    assert replicated["template"]["metadata"]["labels"] == {
        "trainer.kubeflow.org/trainjob-ancestor-step": "trainer"
    }
    (container,) = pod_of("trainjob.yaml")["spec"]["containers"]
    assert container["name"] == "node"
    name = job["metadata"]["name"]
    variables = {
        "PET_NNODES": str(job["spec"]["trainer"]["numNodes"]),
        "PET_NPROC_PER_NODE": "auto",
        "PET_NODE_RANK": "3",
        "PET_MASTER_ADDR": f"{name}-node-0-0.{name}",
        "PET_MASTER_PORT": "29500",
        "JOB_COMPLETION_INDEX": "3",
    }
    variables.update(told("trainjob.yaml", {}))
    assert kubernetes.claim(variables) is None
    claim = trainjob.claim(variables)
    assert (claim.rank, claim.size) == (3, 4)
    assert claim.place.address == "train-node-0-0.train:29500"


@pytest.mark.parametrize("manifest", MANIFESTS)
def test_only_pods_of_the_job_reach_its_workers(manifest):
    label = "jobset.sigs.k8s.io/jobset-name"
    if manifest == "indexed_job.yaml":
        label = "batch.kubernetes.io/job-name"
    of_job = {"matchLabels": {label: "train"}}
    assert documents(manifest)["NetworkPolicy"]["spec"] == {
        "podSelector": of_job,
        "policyTypes": ["Ingress"],
        "ingress": [{"from": [{"podSelector": of_job}]}],
    }


@pytest.mark.parametrize("manifest", MANIFESTS)
def test_pods_run_the_program_of_the_image_where_it_may_write(manifest):
    text = (KUBERNETES / "Containerfile").read_text()
    pod = pod_of(manifest)["spec"]
    (container,) = pod["containers"]
    assert (
        f'CMD ["{container["command"][0]}", "{container["command"][1]}"]'
        in (text)
    )
    (mount,) = container["volumeMounts"]
    (volume,) = pod["volumes"]
    assert f"WORKDIR {mount['mountPath']}\n" in text
    assert f"USER {pod['securityContext']['fsGroup']}\n" in text
    claim = documents(manifest)["PersistentVolumeClaim"]
    assert (
        volume["persistentVolumeClaim"]["claimName"]
        == (claim["metadata"]["name"])
    )
    # One template for pods on many machines.
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    secrets = [
        each["valueFrom"]["secretKeyRef"]
        for each in container["env"]
        if each["name"] == "TFDP_JOB_SECRET"
    ]
    assert secrets == [{"name": "train", "key": "secret", "optional": True}]
