"""Findings, as they are read and sorted out."""

import dataclasses

import pytest

from tfdp.audits.findings import Finding, Findings

WET = Finding("Water must be wet.", "sand", "error", "Add water.")
DEEP = Finding("Water should be deep.", "a puddle", "warning", "Dig.")


def test_a_finding_is_a_rule_what_was_received_and_a_way_out():
    assert WET.message == "Water must be wet. Received: sand. Add water."
    assert str(WET) == f"error: {WET.message}"


def test_findings_are_printed_one_per_line():
    assert str(Findings([WET, DEEP])) == f"{WET}\n{DEEP}"
    assert str(Findings()) == "nothing found"


def test_findings_are_told_apart_by_severity():
    findings = Findings([WET, DEEP, WET])
    assert findings.of("error") == [WET, WET]
    assert findings.of("warning") == [DEEP]
    assert findings.of("note") == []


def test_nothing_found_is_false():
    assert not Findings()
    assert Findings([DEEP])


def test_a_finding_stays_what_it_is():
    with pytest.raises(dataclasses.FrozenInstanceError, match="severity"):
        WET.severity = "note"
