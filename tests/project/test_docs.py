"""Documentation that runs: examples, programs, commands, links."""

import configparser
import doctest
import importlib
import inspect
import os
import re
import runpy
import subprocess
import sys
import types

import click
import keras
import numpy as np
import pytest
import tensorflow as tf
from pages import PAGES, TEXTS, anchors, blocks, commands, links, program
from places import ROOT

import tfdp
from tfdp.cli import main

README = TEXTS["README.md"]
TABLE_OF_NAMES = TEXTS["docs/reference/index.md"]
ENVIRONMENT = TEXTS["docs/reference/environment.md"]
NAMESPACE = {"tfdp": tfdp, "keras": keras, "tf": tf, "np": np}
# What the commands of pages start besides `make` and `tfdp`.
OTHER_COMMANDS = {"export", "mpirun", "pip", "sbatch", "torchrun"}
TFDP_LAUNCH = ["tfdp", "launch"]


def modules_with_examples():
    for folder, package in [("tfdp", "tfdp"), ("callbacks", "tfdp.callbacks")]:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if ">>>" in path.read_text():
                parts = path.relative_to(ROOT / folder).with_suffix("").parts
                yield ".".join([package, *parts]).removesuffix(".__init__")


MODULES = list(modules_with_examples())
COMMANDS = sorted({tuple(c) for p in PAGES for c in commands(TEXTS[p])})


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
    assert program("README.md")
    assert list(commands(README))


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_give_what_they_show(name):
    results = doctest.testmod(
        importlib.import_module(name),
        extraglobs=NAMESPACE,
        optionflags=doctest.ELLIPSIS,
    )
    assert results.attempted, f"no docstring of {name} has its example"
    assert results.failed == 0


@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks(TEXTS[page], "pycon")]
)
def test_interactive_examples_of_pages_give_what_they_show(page):
    examples = "\n".join(blocks(TEXTS[page], "pycon"))
    test = doctest.DocTestParser().get_doctest(examples, {}, page, None, 0)
    assert test.examples
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    assert doctest.DocTestRunner(optionflags=flags).run(test).failed == 0


def run_as_script(path):
    os.chdir(os.path.dirname(path))
    runpy.run_path(path, run_name="__main__")


@pytest.mark.parametrize(
    "page", [p for p in PAGES if p != "README.md" and program(p)]
)
def test_programs_of_pages_run(page, tmp_path, run_workers):
    path = tmp_path / "train.py"
    path.write_text(program(page))
    run_workers(run_as_script, 1, [str(path)])


def side_by_side():
    """The programs of the page on porting, by the names of their tabs."""
    pattern = (
        r":::\{tab-item\} ([^\n]+)\n\n```(?:\{code-block\} )?python\n(.*?)^```$"
    )
    text = TEXTS["docs/start/port.md"]
    return dict(re.findall(pattern, text, flags=re.DOTALL | re.MULTILINE))


def history_of(path):
    os.chdir(os.path.dirname(path))
    return runpy.run_path(path, run_name="__main__")["history"]["loss"]


@pytest.mark.multi_worker
def test_programs_side_by_side_train_alike(tmp_path, run_workers):
    programs = side_by_side()
    losses = {}
    for name, workers in [("Keras", 1), ("Keras with tfdp", 2)]:
        path = tmp_path / str(workers) / "train.py"
        path.parent.mkdir()
        path.write_text(programs[name])
        losses[name], *_ = run_workers(history_of, workers, [str(path)])
        assert (path.parent / "model.keras").exists()
    plain, distributed = losses.values()
    assert len(plain) == 3
    assert plain[-1] < 0.6 * plain[0]
    np.testing.assert_allclose(distributed, plain, rtol=1e-5)


@pytest.mark.parametrize("name", ["Horovod", "PyTorch DDP"])
def test_programs_of_others_are_python(name):
    compile(side_by_side()[name], name, "exec")


def test_the_program_of_the_readme_runs(tmp_path):
    (tmp_path / "train.py").write_text(program("README.md"))
    output = run(["train.py"], tmp_path)
    losses = [float(loss) for loss in re.findall(r" loss: ([\d.]+)", output)]
    assert len(losses) == 5
    assert losses[-1] < 0.8 * losses[0]
    assert "global batch 128 = 16 per replica x 1 replica x 8" in output
    assert "samples/s" in output


@pytest.mark.long
@pytest.mark.multi_worker
def test_program_of_the_readme_is_the_same_for_two_workers(tmp_path):
    (tmp_path / "train.py").write_text(program("README.md"))
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
    (tmp_path / "train.py").write_text(program("docs/how_to/input.md"))
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
    page = "docs/how_to/asynchronous.md"
    (tmp_path / "train.py").write_text(program(page))
    words, *_ = (c for c in commands(TEXTS[page]) if c[:2] == TFDP_LAUNCH)
    launch = ["-m", "tfdp.cli", *words[1:]]
    # 2,000 samples are 63 batches.
    for command in (["train.py"], launch):
        output = run(command, tmp_path)
        assert "315 updates, as one device makes" in output
        losses = re.findall(r" loss: ([\d.e-]+)", output)
        assert len(losses) == 5
        # How fast depends on how stale gradients are, where cores are busy.
        assert float(losses[-1]) < 0.8 * float(losses[0])


def make_targets():
    text = (ROOT / "Makefile").read_text()
    return set(re.findall(r"^([a-z][\w-]*):", text, flags=re.MULTILINE))


def command_of(words):
    """The command of tfdp that words start, and what is left of them."""
    command, rest = main, list(words)
    while rest and isinstance(command, click.Group):
        command = command.commands[rest.pop(0)]
    return command, rest


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_commands_of_the_documentation_exist(words):
    first, *rest = words
    if first == "make":
        assert rest[0] in make_targets()
    elif first == "python":
        assert rest == ["train.py"] or (ROOT / rest[0]).exists()
    elif "tfdp" in words:
        command, given = command_of(words[words.index("tfdp") + 1 :])
        options = {o for p in command.params for o in p.opts}
        # What comes after a script is the script's.
        scripts = [n for n, a in enumerate(given) if a.endswith(".py")]
        given = given[: scripts[0]] if scripts else given
        assert {a for a in given if a.startswith("--")} <= options
    else:
        assert first in OTHER_COMMANDS


def test_variables_of_pages_are_read_somewhere():
    names = {n for t in TEXTS.values() for n in re.findall(r"TFDP_[A-Z_]+", t)}
    assert {"TFDP_START_TIMEOUT", "TFDP_PORT"} <= names
    sources = "".join(p.read_text() for p in (ROOT / "tfdp").rglob("*.py"))
    assert [name for name in names if name not in sources] == []
    # And the other way round.
    read = set(re.findall(r"\bTFDP_[A-Z]\w+\b", sources))
    assert read <= set(re.findall(r"`(\w+)`", ENVIRONMENT))


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


def test_the_reference_has_a_row_for_every_public_name():
    row = r"^\| `([^`]+)` \| (.+) \|$"
    rows = re.findall(row, TABLE_OF_NAMES, flags=re.MULTILINE)
    names = [name for name, _ in rows]
    assert sorted(names) == sorted(public_names())
    assert all(len(text) <= 75 for _, text in rows)


@pytest.mark.parametrize("page", PAGES)
def test_links_between_pages_lead_somewhere(page):
    folder = (ROOT / page).parent
    for target in links(TEXTS[page]):
        if not target.startswith("https://"):
            path, _, anchor = target.partition("#")
            file = (folder / path).resolve() if path else ROOT / page
            assert file.exists(), target
            if anchor:
                assert anchor in anchors(file.read_text()), target


def test_pages_that_are_named_anywhere_exist():
    lines = subprocess.run(
        ["git", "grep", "-hoE", r"\bdocs/[a-z_/]*[a-z_]+\.(md|png)\b"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    if not lines:
        pytest.skip("this is no clone of the repository")
    assert {"docs/ideas/exactness.md"} <= set(lines)
    assert [x for x in sorted(set(lines)) if not (ROOT / x).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_files_that_pages_name_exist(page):
    pattern = r"`((?:tfdp|callbacks|tests|examples)/[\w./]*)`"
    paths = re.findall(pattern, TEXTS[page])
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_links_to_issues_say_where_they_lead():
    pattern = r"\[([\w-]+)#(\d+)\]\(([^)\s]+)\)"
    links = re.findall(pattern, "".join(TEXTS.values()))
    assert links
    for repository, number, url in links:
        assert url.startswith("https://github.com/")
        assert url.endswith(f"/{repository}/issues/{number}")


@pytest.mark.parametrize("page", ["README.md", "docs/start/install.md"])
def test_pages_state_the_versions_of_setup_cfg(page):
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    options = setup["options"]
    floors = dict(re.findall(r"(\w+)>=([\d.]+)", options["install_requires"]))
    text = " ".join(TEXTS[page].split())
    assert f"TensorFlow {floors['tensorflow']} or later" in text
    assert f"Keras {floors['keras']} or later" in text
    assert options["python_requires"] == ">=3.11,<3.14"
    assert "Python 3.11 to 3.13" in text


def test_changelog_knows_this_version():
    text = (ROOT / "CHANGELOG.md").read_text()
    assert re.search(r"^## \[Unreleased\]$", text, flags=re.MULTILINE)
