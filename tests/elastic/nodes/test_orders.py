"""What launchers tell each other, and what nobody can."""

import json
import signal

import pytest

from tfdp.elastic.nodes.orders import Order, Report
from tfdp.elastic.nodes.program import difference, program_of
from tfdp.launching import WorkerFailure
from tfdp.launching.worker_failure import WorkerOutcome


def told(of):
    return json.loads(json.dumps(of.as_fields()))


def test_a_report_arrives_as_it_was_sent():
    report = Report(
        attempt=3,
        runs=False,
        updates=7,
        outcomes=(WorkerOutcome(1, 321, -9, 1.5), WorkerOutcome(2, 1, 0, 2.0)),
        failure=WorkerFailure.of(1, -signal.SIGKILL, last_lines=["a", "b"]),
        leaves=True,
    )
    assert Report.of(told(report)) == report


def test_an_order_arrives_as_it_was_sent():
    order = Order(2, 5, (0, 3), signal=15, kills=True, exit_code=7)
    assert Order.of(told(order)) == order


def test_long_lines_are_cut():
    failure = WorkerFailure.of(0, 1, last_lines=["x" * 10_000])
    (line,) = Report.of(told(Report(1, failure=failure))).failure.last_lines
    assert line == "x" * 500


@pytest.mark.parametrize(
    "changes",
    [
        {"attempt": None},
        {"attempt": "one"},
        {"outcomes": 3},
        {"outcomes": [{"worker": 1}]},
        {"failure": {"last_lines": 3}},
        {"failure": 7},
        {"slots": None},
        {"slots": ["a"]},
        {"exit_code": "x"},
    ],
)
@pytest.mark.parametrize("kind", [Order, Report])
def test_what_cannot_be_says_nothing(kind, changes):
    fields = told(kind(attempt=4))
    if set(changes) <= set(fields):
        assert kind.of({**fields, **changes}) == kind()
    for name in fields:
        left = {key: value for key, value in fields.items() if key != name}
        assert kind.of(left) == (
            kind(attempt=4) if name == "failure" else kind()
        )


def test_programs_differ_by_file_arguments_and_versions(tmp_path):
    script = tmp_path / "a.py"
    script.write_text("1")
    here = program_of(str(script), ["--rate", "1"])
    other = tmp_path / "b.py"
    other.write_text("1")
    assert difference(here, program_of(str(other), ["--rate", "1"])) == ""
    other.write_text("2")
    assert "script" in difference(here, program_of(str(other), ["--rate", "1"]))
    words = difference(here, program_of(str(script), ["--rate", "2"]))
    assert words.startswith("arguments '")
    there = {**here, "Keras": "3.0.0", "tfdp": 7}
    words = difference(here, there)
    assert f"Keras '{here['Keras']}' here, '3.0.0' there; tfdp" in words
    assert "arguments" not in words
