"""What gradients travel by is asked for by name."""

import os

import pytest

from tfdp.transport import checked_communication, obstacle
from tfdp.upstream import gloo


@pytest.mark.parametrize("given", ["auto", "tensorflow", "gloo"])
def test_a_name_is_taken_before_the_variable(monkeypatch, given):
    monkeypatch.setenv("TFDP_COMMUNICATION", "nothing")
    assert checked_communication(given) == given


@pytest.mark.parametrize(
    ("text", "expected"), [("", "auto"), (" gloo ", "gloo")]
)
def test_the_variable_is_taken_where_no_name_is(monkeypatch, text, expected):
    monkeypatch.setenv("TFDP_COMMUNICATION", text)
    assert checked_communication(None) == expected


def test_another_name_is_refused(monkeypatch):
    with pytest.raises(ValueError, match="Received: communication='mpi'"):
        checked_communication("mpi")
    monkeypatch.setenv("TFDP_COMMUNICATION", "nccl")
    with pytest.raises(ValueError, match="Received: TFDP_COMMUNICATION='nccl'"):
        checked_communication(None)


def test_what_is_missing_here_is_told(monkeypatch):
    monkeypatch.setattr(gloo, "is_there", lambda: True)
    assert obstacle() == ""
    monkeypatch.delattr(os, "memfd_create")
    assert obstacle() == "this system shares no memory without a name"
    monkeypatch.setattr(gloo, "is_there", lambda: False)
    assert obstacle() == "gloo is not installed"
