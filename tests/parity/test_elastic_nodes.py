"""Machines that are lost and come back make the weights of one device."""

import contextlib
import pathlib
import re
import signal
import sys

import elastic
import pytest
from node_launchers import Machines

SCRIPT = pathlib.Path(elastic.__file__).with_name("elastic_training.py")


@pytest.mark.long
@pytest.mark.multi_worker
@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked")
@pytest.mark.parametrize(
    ("optimizer", "first_lost"),
    [("momentum", 0), ("Adam", 1)],
)
def test_a_training_of_changing_machines_equals_one_device(
    tmp_path, optimizer, first_lost
):
    job = Machines(tmp_path, "", options=("--rejoin-seconds", "0"))
    # So long that a launcher may come back meanwhile.
    run = {"script": SCRIPT, "args": [tmp_path, optimizer, "0.3"]}
    with contextlib.closing(job):
        names = [job.start(rank, **run) for rank in (0, 1)]
        job.hear(names[0], r"\[worker 0\] update [5-9] of 2")
        lost, left = names[first_lost], names[1 - first_lost]
        job.kill(lost)
        job.hear(left, r"\[worker 0\] update 1\d of 1")
        back = job.start(first_lost, **run)
        job.hear(back if first_lost == 0 else left, r"update [23]\d of 2")
        job.kill(left, signal.SIGTERM)
        assert job.wait(left) == 128 + signal.SIGTERM
        assert job.wait(back, seconds=90) == 0
    updates = {
        int(number) for number in re.findall(r"update (\d+) of", job.all_said())
    }
    assert updates == set(range(1, 41))
    assert re.search(r"update \d+ of 1", job.said(back))
    weights, losses = elastic.differences(tmp_path, optimizer)
    assert weights < 1e-5
    assert losses < 1e-5
