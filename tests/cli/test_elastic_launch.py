"""`tfdp launch --workers MIN:MAX`."""

import click
import pytest
from click.testing import CliRunner

from tfdp.cli.launch import launch
from tfdp.cli.worker_range import WorkerRange, Workers


@pytest.fixture
def said(tmp_path):
    """Runs the command; returns its exit code, and what it says."""

    def said(*options, code=""):
        script = tmp_path / "script.py"
        script.write_text(code)
        result = CliRunner().invoke(launch, [*options, str(script)])
        return result.exit_code, " ".join(result.output.split())

    return said


def test_numbers_and_ranges_are_workers():
    convert = WorkerRange().convert
    assert convert("3", None, None) == Workers(3, 3)
    assert convert("1:4", None, None) == Workers(1, 4, may_change=True)
    assert convert("2:2", None, None) == Workers(2, 2, may_change=True)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("0", "at least one worker. Received: 0. Use 1"),
        ("0:2", "at least one worker. Received: 0:2"),
        ("4:2", "MIN must not be above MAX. Received: 4:2. Use 2:4."),
        ("1:2000", "at most 1024 workers"),
        ("two", "whole number of workers.*Received: two"),
        ("1:", "whole number of workers.*Received: 1:"),
        ("1:2:3", "Received: 1:2:3. Use one colon"),
    ],
)
def test_what_is_no_number_of_workers_is_refused(text, rule):
    with pytest.raises(click.BadParameter, match=rule):
        WorkerRange().convert(text, None, None)


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        (["--workers", "1:2", "--asynchronous"], "1:2 and --asynchronous."),
        (
            ["--workers", "1:3", "--nodes", "a:1,b:1", "--node-rank", "0"],
            "--workers 1:3 and 2 nodes. Use a MAX that they divide.",
        ),
        (
            ["--workers", "1:2", "--nodes", "a:1,b:1", "--node-rank", "0"],
            "tell each other what to do of several nodes must know one secret",
        ),
        (
            ["--workers", "1:2", "--nodes", "a:1,a:2", "--node-rank", "0"],
            "must have an address of its own. Received: a:2 more than once",
        ),
        (
            [
                *("--workers", "1:2", "--nodes", "a:1,b:1", "--isolated"),
                *("--node-rank", "0"),
            ],
            "--isolated and --nodes.",
        ),
        (
            ["--workers", "1:2", "--nodes", "a:1,b:1"],
            "--nodes and --node-rank belong together",
        ),
        (["--workers", "2", "--rejoin-seconds", "3"], "-seconds 3 without"),
        (
            ["--workers", "1", "--preload", "--cpus-per-worker", "1"],
            "--preload and --cpus-per-worker 1.",
        ),
    ],
)
def test_options_that_do_not_go_together_are_refused(said, options, rule):
    exit_code, text = said(*options)
    assert exit_code == 2
    assert rule in text


def test_a_worker_that_falls_again_is_left_out(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import json, os, sys\n"
        "config = json.loads(os.environ['TF_CONFIG'])\n"
        "print(len(config['cluster']['worker']), 'workers')\n"
        "early = int(os.environ['TFDP_RESTART_COUNT']) < 2\n"
        "sys.exit(7 if early and config['task']['index'] else 0)\n"
    )
    options = ["--workers", "1:2", "--rejoin-seconds", "0", str(script)]
    result = CliRunner().invoke(launch, options)
    assert result.exit_code == 0
    assert "Worker 1 failed with exit code 7" in result.output
    assert "going on with 2 workers, as before" in result.output
    assert "going on with 1 worker, fewer" in result.output
    assert "[worker 0] 1 workers" in result.output


@pytest.mark.parametrize(
    ("options", "is_preloaded"),
    [
        (["--workers", "1:2"], True),
        (["--workers", "1:2", "--no-preload"], False),
        (["--workers", "1:2", "--cpus-per-worker", "1"], False),
        (["--workers", "1"], False),
        (["--workers", "1", "--preload"], True),
    ],
)
def test_what_is_imported_once(tmp_path, options, is_preloaded):
    script = tmp_path / "script.py"
    script.write_text("import sys; print('keras' in sys.modules)")
    result = CliRunner().invoke(launch, [*options, str(script)])
    assert result.exit_code == 0
    assert f"[worker 0] {is_preloaded}" in result.output
