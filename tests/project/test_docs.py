"""Documentation that runs: examples, programs, commands, links."""

import configparser
import doctest
import importlib
import inspect
import re
import subprocess
import sys
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from places import ROOT

import tfdp
from tfdp.cli import main

README = (ROOT / "README.md").read_text()
PAGES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"]
PAGES_WITH_EXAMPLES = [
    "docs/groups.md",
    "README.md",
    "docs/large_batches.md",
    "docs/throughput.md",
]
NAMESPACE = {"tfdp": tfdp, "keras": keras, "tf": tf, "np": np}


def modules_with_examples():
    for folder, package in [("tfdp", "tfdp"), ("callbacks", "tfdp.callbacks")]:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if ">>>" in path.read_text():
                parts = path.relative_to(ROOT / folder).with_suffix("").parts
                yield ".".join([package, *parts]).removesuffix(".__init__")


def blocks(text, *languages):
    """Contents of the fenced blocks in one of the languages."""
    pattern = rf"^```(?:{'|'.join(languages)})\n(.*?)^```$"
    return re.findall(pattern, text, flags=re.DOTALL | re.MULTILINE)


MODULES = list(modules_with_examples())
PROGRAMS = blocks(README, "python")


def run(command, folder):
    result = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_examples_are_found():
    assert {"tfdp.optimizer.optimizer", "tfdp.callbacks.data_parallel"} <= set(
        MODULES
    )
    assert PROGRAMS
    assert blocks(README, "sh", "console")


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_give_what_they_show(name):
    results = doctest.testmod(
        importlib.import_module(name),
        extraglobs=NAMESPACE,
        optionflags=doctest.ELLIPSIS,
    )
    assert results.attempted, f"no docstring of {name} has its example"
    assert results.failed == 0


@pytest.mark.parametrize("page", PAGES_WITH_EXAMPLES)
def test_interactive_examples_of_pages_give_what_they_show(page):
    examples = "\n".join(blocks((ROOT / page).read_text(), "pycon"))
    test = doctest.DocTestParser().get_doctest(examples, {}, page, None, 0)
    assert test.examples
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    assert doctest.DocTestRunner(optionflags=flags).run(test).failed == 0


@pytest.mark.parametrize("program", PROGRAMS, ids=range(len(PROGRAMS)))
def test_programs_of_the_readme_run(program, tmp_path):
    (tmp_path / "train.py").write_text(program)
    output = run(["train.py"], tmp_path)
    losses = [float(loss) for loss in re.findall(r" loss: ([\d.]+)", output)]
    assert len(losses) == 5
    assert losses[-1] < 0.8 * losses[0]
    assert "global batch 128 = 16 per replica x 1 replica x 8" in output
    assert "samples/s" in output


@pytest.mark.long
@pytest.mark.multi_worker
def test_program_of_the_readme_is_the_same_for_two_workers(tmp_path):
    (tmp_path / "train.py").write_text(PROGRAMS[0])
    launch = ["launch", "--workers", "2", "train.py"]
    output = run(["-m", "tfdp.cli", *launch], tmp_path)
    one = run(["train.py"], tmp_path)
    plan = "global batch 128 = 16 per replica x 2 replicas x 4"
    assert f"[worker 0] {plan}" in output
    assert f"[worker 1] {plan}" in output
    # The other worker says no more, and the first nothing that is of no use.
    assert output.count("[worker 1]") == 1
    assert not re.search(r"warn|absl|cuda|_per_second|prefetch", output, re.I)
    losses = [
        [float(loss) for loss in re.findall(r" loss: ([\d.]+)", text)]
        for text in (output, one)
    ]
    assert len(losses[1]) == 5
    # A processor that can computes in bfloat16.
    np.testing.assert_allclose(*losses, rtol=5e-3)


@pytest.mark.long
@pytest.mark.multi_worker
def test_program_about_input_trains_alike_on_two_workers(tmp_path):
    page = (ROOT / "docs" / "input.md").read_text()
    program = "\n\n".join(blocks(page, "python"))
    (tmp_path / "train.py").write_text(program)
    launch = ["launch", "--workers", "2", "train.py"]
    one, two = (
        dict(re.findall(r"([\w. ]+): loss ([\d.]+)", output))
        for output in (
            run(["train.py"], tmp_path),
            run(["-m", "tfdp.cli", *launch], tmp_path).replace(
                "[worker 0] ", ""
            ),
        )
    )
    assert set(one) == {
        *("tf.data", "random numbers", "arrays", "files", "by place")
    }
    assert set(two) == set(one)
    for name in set(one) - {"files"}:
        assert float(two[name]) == pytest.approx(float(one[name]), abs=2e-4)


@pytest.mark.long
@pytest.mark.multi_worker
def test_program_about_asynchrony_makes_the_updates_of_one_device(tmp_path):
    page = (ROOT / "docs" / "asynchronous.md").read_text()
    (program,) = blocks(page, "python")
    (tmp_path / "train.py").write_text(program)
    (line,) = (c for c in commands(page) if c.startswith("tfdp launch"))
    launch = ["-m", "tfdp.cli", *line.split()[1:]]
    # 2,000 samples are 63 batches.
    for command in (["train.py"], launch):
        output = run(command, tmp_path)
        assert "315 updates, as one device makes" in output
        losses = re.findall(r" loss: ([\d.e-]+)", output)
        assert len(losses) == 5
        # How fast depends on how stale gradients are, where cores are busy.
        assert float(losses[-1]) < 0.8 * float(losses[0])


def commands(text):
    for block in blocks(text, "sh", "console"):
        for line in block.splitlines():
            command = line.removeprefix("$ ").partition("#")[0].strip()
            if command:
                yield command


def make_targets():
    text = (ROOT / "Makefile").read_text()
    return set(re.findall(r"^([a-z][\w-]*):", text, flags=re.MULTILINE))


@pytest.mark.parametrize(
    "command",
    sorted({c for page in PAGES for c in commands((ROOT / page).read_text())}),
)
def test_commands_of_the_documentation_exist(command):
    program, name, *arguments = command.split()
    assert program in ("make", "tfdp"), f"neither make nor tfdp: {command}"
    if program == "make":
        assert name in make_targets()
        return
    assert name in main.commands
    options = {o for p in main.commands[name].params for o in p.opts}
    given = [a for a in arguments if a.startswith("-")]
    assert set(given) <= options


def public_names():
    for module in (tfdp, tfdp.callbacks, tfdp.testing):
        for name in dir(module):
            value = getattr(module, name)
            own = getattr(value, "__module__", None) or ""
            if (
                not name.startswith("_")
                and not isinstance(value, types.ModuleType)
                and (inspect.isclass(value) or inspect.isroutine(value))
                and own.startswith(module.__name__)
            ):
                yield f"{module.__name__}.{name}"
    for name in main.commands:
        yield f"tfdp {name}"


def test_readme_has_a_row_for_every_public_name():
    rows = re.findall(r"^\| `([^`]+)` \| (.+) \|$", README, flags=re.MULTILINE)
    names = [name for name, _ in rows]
    assert sorted(names) == sorted(public_names())
    assert all(len(text) <= 75 for _, text in rows)


@pytest.mark.parametrize("page", PAGES)
def test_links_between_pages_lead_somewhere(page):
    text = (ROOT / page).read_text()
    targets = re.findall(r"\]\(([^)]+)\)", text)
    local = [t for t in targets if not t.startswith("https://")]
    assert [t for t in local if not (ROOT / t).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_files_that_pages_name_exist(page):
    text = (ROOT / page).read_text()
    paths = re.findall(r"`((?:tfdp|callbacks|tests|examples)/[\w./]*)`", text)
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_links_to_issues_say_where_they_lead():
    links = re.findall(r"\[([\w-]+)#(\d+)\]\(([^)\s]+)\)", README)
    assert links
    for repository, number, url in links:
        assert url.startswith("https://github.com/")
        assert url.endswith(f"/{repository}/issues/{number}")


def test_readme_states_the_versions_of_setup_cfg():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    options = setup["options"]
    floors = dict(re.findall(r"(\w+)>=([\d.]+)", options["install_requires"]))
    text = " ".join(README.split())
    assert f"TensorFlow {floors['tensorflow']} or later" in text
    assert f"Keras {floors['keras']} or later" in text
    assert options["python_requires"] == ">=3.11,<3.14"
    assert "Python 3.11 to 3.13" in text


def test_changelog_knows_this_version():
    text = (ROOT / "CHANGELOG.md").read_text()
    assert re.search(r"^## \[Unreleased\]$", text, flags=re.MULTILINE)
