"""The benchmarks run, and print the tables that their page shows."""

import os
import pathlib
import re
import subprocess
import sys

BENCHMARKS = pathlib.Path(__file__).parents[1] / "benchmarks"


def run(script, *arguments):
    result = subprocess.run(
        [sys.executable, BENCHMARKS / script, *arguments],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


def rows(output):
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in output.splitlines()
        if line.startswith("|") and "---" not in line
    ]


def test_large_batches_are_measured_once(tmp_path):
    arguments = (
        "--quick",
        *("--task", "digits", "--rules", "none", "AdaScale"),
        *("--output", str(tmp_path)),
    )
    output = run("large_batch.py", *arguments)
    accuracy = {row[0]: row[1:] for row in rows(output)[:4]}
    assert accuracy["held-out accuracy at batch"] == ["16", "256"]
    assert re.fullmatch(r"[\d.]+%", accuracy["base"][0])
    assert re.fullmatch(r"[\d.]+%", accuracy["AdaScale"][1])
    (plot,) = tmp_path.glob("*.png")
    assert plot.read_bytes().startswith(b"\x89PNG")
    lines = (tmp_path / "runs.jsonl").read_text().splitlines()
    assert len(lines) == 3
    assert run("large_batch.py", *arguments) == output
    assert (tmp_path / "runs.jsonl").read_text().splitlines() == lines


def test_what_the_monitor_costs_is_measured():
    output = run("monitor_overhead.py", "--quick")
    table = rows(output)[1:]
    assert [row[:2] for row in table] == [
        [replicas, name]
        for replicas in ("1", "2")
        for name in ("without", "monitor", "and listener")
    ]
    for row in table:
        assert float(row[2].removesuffix(" µs").replace(",", "")) > 100
        assert (" µs (" in row[3]) == (row[1] != "without")
