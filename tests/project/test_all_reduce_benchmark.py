"""The all-reduce is measured; PyTorch's only where somebody asks for it."""

import subprocess
import sys

import pytest
from places import ROOT

SCRIPT = ROOT / "benchmarks" / "all_reduce.py"


@pytest.mark.long
@pytest.mark.multi_worker
def test_two_workers_are_measured_beside_tcp():
    result = subprocess.run(
        [sys.executable, SCRIPT, "--quick", "--only", "TCP", "tfdp"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    head, _, *table = result.stdout.splitlines()
    assert "tensorflow" in head
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in table]
    assert rows[0] == ["tensor", "TCP", "tfdp"]
    assert [row[0] for row in rows[2:]] == ["64 KiB", "4 MiB"]
    for row in rows[2:]:
        assert all(each.endswith(" GB/s") for each in row[1:])
