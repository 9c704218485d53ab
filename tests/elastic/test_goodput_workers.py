"""What becomes of the time where a worker is killed, seen from outside."""

import itertools
import json
import sys
import time

import pytest
from places import SHARED

from tfdp.elastic import ElasticGroup, ElasticLauncher, Slots
from tfdp.launching import ForkServer, worker_variables
from tfdp.report import logged_goodput

NAP = 0.1  # of each update, in the program


def made(folder):
    """Updates of each start, as the optimizer has counted them."""
    files = sorted(folder.glob("updates-*"))
    return [list(map(int, file.read_text().split())) for file in files]


@pytest.mark.long
@pytest.mark.multi_worker
def test_time_and_updates_of_killed_workers_add_up(tmp_path):
    server = ForkServer(["keras", "tfdp.callbacks"], worker_variables())

    def start_group(restart_count, **kwargs):
        return ElasticGroup(
            [sys.executable, SHARED / "goodput.py", str(tmp_path), "2"],
            restart_count=restart_count,
            server=server,
            **kwargs,
        )

    said = []
    try:
        launcher = ElasticLauncher(
            start_group,
            slots=Slots(1, 2, rejoin_seconds=0, forgiven=0, first_pause=300),
            say=said.append,
            max_restarts=1,
            timeout=200,
        )
        begun = time.monotonic()
        assert launcher.run() == 0, said
        passed = time.monotonic() - begun
    finally:
        server.close()
    goodput, complaints = logged_goodput(tmp_path / "run")
    assert complaints == []
    assert sum(goodput.parts.values()) == pytest.approx(passed, rel=0.02)
    assert goodput.stopped == 0
    counted = list(itertools.chain(*made(tmp_path)))
    assert goodput.made == len(counted)
    assert goodput.repeated == len(counted) - len(set(counted)) == 3
    assert (goodput.starts, goodput.losses) == (2, 1)
    # What the program certainly takes for its updates.
    parts = goodput.parts
    assert parts["updates"] > NAP * 0.95 * (len(set(counted)) - 2)
    assert parts["repeating"] > NAP * 0.95 * (goodput.repeated - 1)
    assert all(
        parts[part] > 0
        for part in ("starting", "tracing", "noticing", "waiting", "validation")
    )
    log = (tmp_path / "run" / "run.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in log]
    (loss,) = [row for row in rows if row["kind"] == "loss"]
    died = float((tmp_path / "killed").read_text())
    assert loss["time"] == pytest.approx(died, abs=0.5)
    assert (loss["worker"], loss["exit_code"]) == (1, 137)
    assert rows[-1]["kind"] == "exit"
    assert f"goodput: {goodput}" in said
