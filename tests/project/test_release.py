"""What a release needs beside the packages themselves."""

import itertools
import re

import pytest
import release
import yaml
from places import ROOT

import tfdp

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


def test_texts_know_the_version():
    assert release.check_names(tfdp.__version__) == []
    assert (
        release.check_names(
            tfdp.__version__, tags=["nightly", f"v{tfdp.__version__}"]
        )
        == []
    )


@pytest.mark.parametrize(
    ("version", "tags", "wrong"),
    [
        ("9.8.7", [], ["CHANGELOG.md", "CITATION.cff"]),
        (tfdp.__version__, ["v9.8.7"], ["tagged v9.8.7"]),
    ],
)
def test_another_version_is_told(version, tags, wrong):
    found = release.check_names(version, tags=tags)
    assert len(found) == len(wrong)
    for said, expected in zip(found, wrong, strict=True):
        assert expected in said


def test_citation_is_what_readers_of_the_format_need():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors", "license"} <= set(citation)
    assert citation["title"].startswith("tfdp")
    assert all(author["name"] for author in citation["authors"])


def steps(path):
    jobs = yaml.safe_load(path.read_text())["jobs"].values()
    return list(itertools.chain.from_iterable(job["steps"] for job in jobs))


def test_workflows_run_what_the_project_runs():
    commands = "\n".join(
        step.get("run", "") for path in WORKFLOWS for step in steps(path)
    )
    assert ".ci/run" in commands.split()
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
    targets += ["oldest-versions", "newest-versions", "nightly-versions"]
    for path in WORKFLOWS:
        text = path.read_text()
        versions = yaml.safe_load(text)["jobs"]
        for made in re.findall(r"make ([\w-]+)", text):
            assert made in targets
        for job in versions.values():
            for kind in (
                job.get("strategy", {}).get("matrix", {}).get("versions", [])
            ):
                assert f"{kind}-versions" in targets


def test_versions_tried_are_the_oldest_the_newest_and_the_nightly():
    (job,) = yaml.safe_load(
        (ROOT / ".github" / "workflows" / "versions.yml").read_text()
    )["jobs"].values()
    assert job["strategy"]["matrix"]["versions"] == [
        "oldest",
        "newest",
        "nightly",
    ]


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_forms_of_issues_ask_for_something(path):
    form = yaml.safe_load(path.read_text())
    if path.stem == "config":
        assert form == {"blank_issues_enabled": True}
        return
    assert form["name"]
    assert form["description"]
    asked = [part for part in form["body"] if part["type"] != "markdown"]
    assert any(part["validations"]["required"] for part in asked)
