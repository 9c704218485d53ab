import os

import pytest

from tfdp.machine import cores


@pytest.fixture
def machine(monkeypatch):
    """Lets this process use the cores 2, 3, 5, 7 and 11."""
    own = {2, 3, 5, 7, 11}
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: own, raising=False)
    monkeypatch.setattr(
        os, "sched_setaffinity", lambda pid, c: c, raising=False
    )


@pytest.mark.usefixtures("machine")
def test_every_worker_has_cores_of_its_own():
    assert cores.core_shares(2, 2) == [{2, 3}, {5, 7}]
    assert cores.core_shares(5, 1) == [{2}, {3}, {5}, {7}, {11}]


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    ("workers", "each", "way_out"),
    [(2, 3, "Use at most 2,"), (6, 1, r"Start at most 5 worker\(s\)")],
)
def test_too_few_cores_are_counted(workers, each, way_out):
    with pytest.raises(ValueError, match=way_out) as caught:
        cores.core_shares(workers, each)
    message = str(caught.value)
    assert f"cpus_per_worker={each} with {workers} workers here" in message
    assert "and 5 core(s) to use" in message


@pytest.mark.parametrize("each", [0, -1])
def test_a_worker_has_a_core(each):
    with pytest.raises(ValueError, match=f"cpus_per_worker={each}"):
        cores.core_shares(1, each)


def test_system_that_cannot_keep_a_process_on_cores_says_so(monkeypatch):
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    with pytest.raises(RuntimeError, match=r"cpus_per_worker=2\. Leave it out"):
        cores.core_shares(1, 2)


def test_tensorflow_gets_a_thread_per_core():
    assert cores.thread_variables(3) == {
        "TF_NUM_INTRAOP_THREADS": "3",
        "TF_NUM_INTEROP_THREADS": "3",
        "OMP_NUM_THREADS": "3",
    }
