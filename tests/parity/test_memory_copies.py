"""Workers that are killed go on from memory, at the update where they were."""

import json
import os
import subprocess
import sys

import pytest
from places import ROOT

SCRIPT = ROOT / "tests/shared/killed_worker.py"
UPDATES_OF_EPOCH, UPDATES = 5, 15
pytestmark = pytest.mark.multi_worker


def launch(folder, *arguments, options=("--max-restarts=1",)):
    folder.mkdir()
    return subprocess.run(
        [
            *(sys.executable, "-m", "tfdp.cli", "launch", "--workers=2"),
            *options,
            *(SCRIPT, folder, *arguments),
        ],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=200,
    )


def weights_in(folder):
    return json.loads((folder / "weights.json").read_text())


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    result = launch(folder)
    assert result.returncode == 0, result.stderr
    return weights_in(folder)


@pytest.mark.parametrize("victim", [0, 1], ids=["chief", "other"])
def test_no_update_is_lost_with_a_worker(tmp_path, undisturbed, victim):
    """Killed as the fourth step of the second epoch begins."""
    folder = tmp_path / "run"
    result = launch(folder, str(victim), "1", "3")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Resuming at epoch 2, batch 3, from memory." in result.stdout
    rows = (folder / f"updates-{victim}").read_text().splitlines()
    of_attempts = [
        [int(u) for a, u in map(str.split, rows) if int(a) == attempt]
        for attempt in (0, 1)
    ]
    first = UPDATES_OF_EPOCH + 3
    assert of_attempts[0] == [*range(1, first + 1)]
    assert of_attempts[1] == [*range(first + 1, UPDATES + 1)]
    assert weights_in(folder) == undisturbed
