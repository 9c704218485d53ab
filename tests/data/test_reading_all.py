"""Who has every worker read all samples is told of it, and nobody else."""

import pytest
from places import SHARED

import tfdp

pytestmark = pytest.mark.long
PROGRAM = SHARED / "slow_input.py"
WAYS = ("whole", "marked", "own shards")


@pytest.fixture(scope="module")
def two_workers():
    return tfdp.testing.run_workers(PROGRAM, 2, timeout=400)


@pytest.mark.multi_worker
def test_the_monitor_names_the_mark_where_all_is_read_by_all(two_workers):
    for found in two_workers:
        for way in WAYS:
            assert found[way]["all read all"] == (way == "whole")
            # On a busy machine another limit may be the larger one.
            is_due = way == "whole" and found[way]["kind"] == "input"
            says_so = "Every worker reads all samples" in found[way]["words"]
            assert says_so == is_due


@pytest.mark.multi_worker
def test_an_audit_notes_a_dataset_without_the_mark(two_workers):
    for found in two_workers:
        (note,) = found["notes"]["whole"]
        assert "of which each of 2 workers reads all samples" in note
        assert "`dataset.apply(tfdp.shard)`" in note
        assert found["notes"]["marked"] == found["notes"]["arrays"] == []


def test_one_worker_alone_is_not_told():
    (found,) = tfdp.testing.run_workers(PROGRAM, 1, timeout=400)
    assert not any(found["notes"].values())
    assert not any(found[way]["all read all"] for way in WAYS)
    assert "tfdp.shard" not in found["whole"]["words"]
