import pathlib
import subprocess
import sys

import pytest
import run_logs
from click.testing import CliRunner

from tfdp.cli import main
from tfdp.report.goodput import PARTS


@pytest.fixture
def folders(tmp_path):
    return [
        run_logs.write(
            tmp_path / name,
            run_logs.trained(1, replicas, updates=200, every=20),
        )
        for name, replicas in [("one", 1), ("two", 2)]
    ]


def report(*args):
    return CliRunner().invoke(main, ["report", *map(str, args)])


@pytest.mark.long
def test_the_command_starts_without_tensorflow(folders, tmp_path):
    command = [sys.executable, "-X", "importtime", "-m", "tfdp.cli", "report"]
    result = subprocess.run(
        [*command, *map(str, folders)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    imported = {
        line.rpartition("|")[2].strip() for line in result.stderr.splitlines()
    }
    assert {"tfdp.report.page", "altair"} <= imported
    assert imported & {"tensorflow", "keras"} == set()
    head, one, two, *others = result.stdout.splitlines()
    assert head.split() == [
        *("Run", "Replicas", "Updates", "Samples/s", "Per", "update"),
        *("Speed-up", "Efficiency"),
    ]
    assert one.startswith("one         1      200")
    assert two.startswith("two         2      200")
    assert f"two: {run_logs.WORDS}" in others
    page = pathlib.Path("report", "report.html")
    assert others[-1].startswith(f"{page} and 1")
    assert (tmp_path / page).is_file()


def test_runs_are_called_as_asked(folders, tmp_path):
    names = ["--name", "mine", "--name", "yours"]
    result = report(*folders, *names, "--output", tmp_path / "out")
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.output.splitlines()[1:3]] == [
        *("mine", "yours")
    ]
    assert "yours" in (tmp_path / "out" / "report.html").read_text()


def test_a_folder_without_a_log_is_told(tmp_path):
    result = report(tmp_path)
    assert result.exit_code == 1
    assert "Error: A run must be a folder with its log" in result.output
    assert report().exit_code == 2


def test_an_output_that_cannot_be_written_is_told(folders):
    result = report(folders[0], "--output", folders[0] / "run.jsonl" / "x")
    assert result.exit_code == 1
    assert "`--output` must be a folder that can be written to" in result.output


def test_missing_packages_are_told(folders, monkeypatch):
    monkeypatch.delitem(sys.modules, "tfdp.report.page", raising=False)
    monkeypatch.setitem(sys.modules, "tfdp.report.charts.chart", None)
    result = report(*folders)
    assert result.exit_code == 1
    assert "pip install 'tfdp[report]'" in result.output


def test_long_names_are_shortened_in_the_table(folders, tmp_path):
    names = ["--name", 200 * "a", "--name", "b"]
    result = report(*folders, *names, "--output", tmp_path / "out")
    assert result.exit_code == 0
    head, one, two, *_ = result.output.splitlines()
    assert one.startswith(39 * "a" + "…  ")
    assert len(head) == len(one) == len(two) < 120
    assert 200 * "a" in (tmp_path / "out" / "report.html").read_text()


@pytest.fixture
def damaged(tmp_path):
    """A run of which two lines on starts and ends are damaged."""
    *lines, last = run_logs.trained(1, 1, updates=40, every=20)
    lines.insert(2, {"kind": "spent", "time": "noon", "attempt": "a"})
    return run_logs.write(tmp_path / "damaged", [*lines, {**last, "made": -1}])


def test_goodput_is_printed_with_the_table(folders, tmp_path):
    result = report(*folders, "--output", tmp_path / "out")
    assert result.exit_code == 0
    lines = result.output.splitlines()
    (said,) = [line for line in lines if line.startswith("two: goodput ")]
    assert said.endswith("1 start, 200 updates.")


def test_goodput_alone_writes_nothing(folders, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.iterdir())
    old = run_logs.write(tmp_path / "old", [run_logs.begin()])
    result = report("--goodput", folders[0], old)
    assert result.exit_code == 0
    assert set(tmp_path.iterdir()) == before | {old}
    first, *parts, last = result.output.splitlines()
    assert first.startswith(f"{folders[0]}: goodput ")
    assert last == f"{old}: goodput unknown, as its log tells no starts"
    rows = [line.split() for line in parts]
    assert [row[0] for row in rows] == [*PARTS, "sum"]
    seconds = [float(row[1]) for row in rows]
    assert all(row[2] == "s" for row in rows)
    assert sum(seconds[:-1]) == pytest.approx(seconds[-1], abs=0.5)


@pytest.mark.parametrize("options", [["--goodput"], []])
def test_damaged_lines_are_told_and_not_fatal(damaged, tmp_path, options):
    result = report(damaged, *options, "--output", tmp_path / "out")
    assert result.exit_code == 0
    assert result.output.count("Warning: A line on starts and ends must") == 2
    assert "line 3: \"time\" is 'noon'" in result.output
    assert '"made" is -1. It is passed over.' in result.output


def test_goodput_of_a_folder_without_a_log_is_refused(tmp_path):
    result = report("--goodput", tmp_path)
    assert result.exit_code == 1
    assert "no run.jsonl in it" in result.output
