"""Workers that are killed go on from memory, at the update where they were."""

import json
import os
import pathlib
import subprocess
import sys

import pytest
from places import ROOT

SCRIPT = ROOT / "tests/shared/killed_worker.py"
UPDATES_OF_EPOCH, UPDATES = 5, 15
pytestmark = pytest.mark.multi_worker


def train(folder, *kills, max_restarts):
    """Trains under `tfdp launch`; returns its output, and the weights."""
    folder.mkdir()
    result = subprocess.run(
        [
            *(sys.executable, "-m", "tfdp.cli", "launch", "--workers=2"),
            f"--max-restarts={max_restarts}",
            *(SCRIPT, folder, *kills),
        ],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout, json.loads((folder / "weights.json").read_text())


def updates(folder, worker, attempt):
    """Returns which updates were made, each with what was drawn in it."""
    lines = (folder / f"updates-{worker}-{attempt}").read_text().splitlines()
    return dict(line.split() for line in lines)


@pytest.mark.long
def test_killed_workers_lose_no_update_that_was_saved(tmp_path):
    """Slots are shared out, weights averaged, and the disk has only epochs."""
    _, undisturbed = train(tmp_path / "whole", max_restarts=0)
    folder = tmp_path / "killed"
    kills = ["1,0,3", "0,1,2", "0,2,1,writing"]
    output, weights = train(folder, *kills, max_restarts=3)
    assert weights == undisturbed
    # In a step all updates before it are in memory: none is lost.
    assert "Resuming at epoch 1, batch 3, from memory." in output
    assert "Resuming at epoch 2, batch 2, from memory." in output
    # While an update is being saved, that one is lost, and no more.
    assert "Resuming at epoch 3, batch 1, from memory." in output
    ends = [3, UPDATES_OF_EPOCH + 2, 2 * UPDATES_OF_EPOCH + 2, UPDATES]
    begins = [0, *ends[:2], ends[2] - 1]
    for attempt, (begin, end) in enumerate(zip(begins, ends, strict=True)):
        for worker in (0, 1):
            made = updates(folder, worker, attempt)
            assert list(made) == [str(n) for n in range(begin + 1, end + 1)]
            assert (
                made.items() <= updates(tmp_path / "whole", worker, 0).items()
            )
    assert not list(pathlib.Path("/dev/shm").glob("tfdp-*/*.copy"))
