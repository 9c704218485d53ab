"""Faults of every kind are noticed, and leave the weights of one device."""

import sys

import pytest
import soak

KINDS = ("kill", "hang", "cut", "stop")


@pytest.mark.long
@pytest.mark.multi_worker
@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked")
def test_a_fault_of_each_kind_changes_nothing(tmp_path):
    result = soak.run(tmp_path, "momentum", 6, KINDS, every=6)
    assert result.wrongs == [], "\n".join(result.job.lines)
    assert [fault.kind for fault in result.faults] == list(KINDS)
    ends = {fault.kind: result.end_of(fault) for fault in result.faults}
    assert ends["kill"].words == "was killed by SIGKILL"
    assert ends["hang"].words == "has made no progress"
    assert ends["stop"].words == "has been stopped"
    assert result.useful == result.job.updates[-1].number
    assert result.twice <= len(KINDS)
