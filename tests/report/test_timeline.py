"""One trace of all workers, from logs of single steps that never were."""

import json

import pytest
import trace_events
from click.testing import CliRunner

from tfdp.cli import main

FIT = {"kind": "fit", "time": 100.0, "workers": 2, "replicas": 2, "every": 10}
# The second worker's clock is two seconds ahead, and soon two and a half.
CLOCKS = [
    {
        "kind": "clocks",
        "time": when,
        "offsets": [0, ahead],
        "errors": [0, error],
    }
    for when, ahead, error in [(100, 2, 2e-4), (102, 2.5, 5e-4), (110, 2.5, 0)]
]


def spans(worker, time, steps=(), batches=(), states=()):
    lists = {"steps": steps, "batches": batches, "states": states}
    return {"kind": "spans", "time": time, "worker": worker, **lists}


# A step of one second from 104 on, of both workers at once.
STEP = [
    spans(
        0,
        105.0,
        [[0, -1_000_000, -900_000, 0, 1]],
        [[0, -800_000, -500_000, -200_000, 0]],
        [["starting", -4_000_000, -1_000_000], ["training", -1_000_000, 0]],
    ),
    spans(
        1,
        105.0,
        [[0, 1_500_000, 1_600_000, 2_500_000, 1]],
        [[0, 1_700_000, 2_200_000, 2_300_000, 0]],
    ),
]
RUN = {"kind": "run", "time": 100.5, "update": 0}


def write(folder, lines, *, run=(RUN,), tail=""):
    folder.mkdir(exist_ok=True)
    for name, of in (("timeline.jsonl", lines), ("run.jsonl", run)):
        text = "".join(json.dumps(line) + "\n" for line in of)
        (folder / name).write_text(text + tail)
    return folder


def timeline(*args):
    return CliRunner().invoke(main, ["report", "--timeline", *map(str, args)])


def trace_of(folder, *others):
    out = folder / "out"
    result = timeline(folder, *others, "--output", out)
    assert result.exit_code == 0, result.output
    return trace_events.read(out / "timeline.json"), result.output


def test_workers_are_beside_each_other_by_the_clock_of_the_chief(tmp_path):
    trace, output = trace_of(write(tmp_path / "run", [FIT, *CLOCKS, *STEP]))
    assert "2 workers, whose clocks are aligned to 0.50 ms" in output
    assert trace["otherData"]["clocks"]["run"] == [
        {"worker": 0, "ahead_ms": 0, "error_ms": 0},
        {"worker": 1, "ahead_ms": 2500, "error_ms": 0.5},
    ]
    # The second worker says 104 where its clock is 2.5 seconds ahead.
    second = 1e6
    assert trace_events.slices(trace, 2, 1) == [
        ("step", 3 * second, second),
        ("start", 3 * second, 0.1 * second),
        ("input", 3.1 * second, 0.1 * second),
        ("compute", 3.2 * second, 0.5 * second),
        ("communication", 3.7 * second, 0.1 * second),
        ("other", 3.8 * second, 0.2 * second),
    ]


def test_who_is_first_waits_as_long_as_the_last_does_not(tmp_path):
    trace, _ = trace_of(write(tmp_path / "run", [FIT, *CLOCKS, *STEP]))
    assert trace_events.slices(trace, 1, 1)[4:] == [
        ("waiting", 3.5e6, 0.2e6),
        ("communication", 3.7e6, 0.1e6),
        ("other", 3.8e6, 0.2e6),
    ]
    assert trace_events.slices(trace, 1, 0) == [
        ("starting", 0, 3e6),
        ("training", 3e6, 1e6),
    ]


def test_stamps_beyond_their_step_are_cut_off(tmp_path):
    odd = spans(
        0,
        105.0,
        [[3, 0, 50, 100, 0]],
        [[3, 40, 900, -7, 0], [3, 30, 60, None, 0], [4, 1, 2, None, 0]],
        [["callbacks", 0, 70], ["vote", 50, 90], ["vote", 60, 80]],
    )
    trace, _ = trace_of(write(tmp_path / "run", [{**FIT, "workers": 1}, odd]))
    assert trace_events.slices(trace, 1, 1) == [
        ("step", 0, 100),
        ("start", 0, 50),
        ("compute", 50, 50),
    ]
    assert trace_events.slices(trace, 1, 0) == [
        ("callbacks", 0, 70),
        ("vote", 70, 20),
    ]


def test_starts_and_losses_are_a_track_of_their_own(tmp_path):
    starts = [
        {"kind": "start", "time": 101.0, "attempt": "a", "workers": 2},
        {"kind": "loss", "time": 103.0, "attempt": "a"},
        {"kind": "exit", "time": 103.5, "attempt": "a", "made": 3},
        {"kind": "start", "time": 104.0, "attempt": "b", "workers": 2},
        {"kind": "exit", "time": 106.0, "attempt": "b", "made": 9},
    ]
    lines = [FIT, *CLOCKS, *STEP]
    trace, _ = trace_of(write(tmp_path / "run", lines, run=[RUN, *starts]))
    assert trace_events.slices(trace, 0, 0) == [
        ("start 1", 0, 2.5e6),
        ("noticing", 2e6, 0.5e6),
        ("start 2", 3e6, 2e6),
    ]
    lost = [e for e in trace["traceEvents"] if e["ph"] == "i"]
    assert [(e["name"], e["ts"]) for e in lost] == [("worker lost", 2e6)]


def test_runs_are_told_apart(tmp_path):
    one, two = (
        write(tmp_path / name, [FIT, *CLOCKS, *STEP]) for name in ("one", "two")
    )
    trace, output = trace_of(one, two, "--name", "a", "--name", "b")
    assert "4 workers" in output
    names = [
        (event["pid"], event["args"]["name"])
        for event in trace["traceEvents"]
        if event["name"] == "process_name"
    ]
    assert names == [
        *[(1, "a: worker 0"), (2, "a: worker 1")],
        *[(100_001, "b: worker 0"), (100_002, "b: worker 1")],
    ]


def test_clocks_that_were_not_compared_are_said_to_be(tmp_path):
    trace, output = trace_of(write(tmp_path / "run", [FIT, *STEP]))
    assert "aligned to an unknown error" in output
    assert trace["otherData"]["clocks"]["run"][1]["error_ms"] is None


def test_a_last_line_that_was_cut_in_half_is_left_out(tmp_path):
    lines = [FIT, *CLOCKS, *STEP]
    trace_of(write(tmp_path / "run", lines, tail='{"kind": "spa'))


def test_a_folder_without_single_steps_is_told(tmp_path):
    result = timeline(tmp_path)
    assert result.exit_code == 1
    assert "A timeline needs the log of single steps" in result.output
    assert "(no timeline.jsonl in it)" in result.output
    assert "(no such folder)" in timeline(tmp_path / "none").output
    result = timeline(write(tmp_path / "run", [FIT, *CLOCKS]))
    assert "The log of single steps must have some" in result.output


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (["text"], "TypeError"),
        ([{"time": 1.0}], "KeyError('kind')"),
        ([{**FIT, "workers": 0}], "0 is no count"),
        ([{**FIT, "every": "10"}], "'10' is no count"),
        ([CLOCKS[0]], "of 0 workers"),
        ([FIT, {**CLOCKS[0], "offsets": [0, "1"]}], "of 2 workers"),
        ([FIT, {**CLOCKS[0], "time": None}], "time None"),
        ([FIT, spans(2, 100.0)], "worker 2 of 2"),
        ([FIT, spans(0, 100.0, steps=[[1, 2]])], "[1, 2] among steps"),
        ([FIT, spans(0, 100.0, states=[["a", 1, None]])], "among states"),
        ([FIT, spans(0, -1.0)], "time -1.0"),
    ],
)
def test_a_malformed_line_is_told(tmp_path, lines, problem):
    result = timeline(write(tmp_path / "run", lines))
    assert result.exit_code == 1
    assert "Every line of a log of single steps" in result.output
    assert f"line {len(lines)}: " in result.output
    assert problem in result.output


def test_a_line_that_is_no_json_is_told(tmp_path):
    folder = write(tmp_path / "run", [FIT])
    (folder / "timeline.jsonl").write_text("{\n{}\n")
    assert "line 1: Expecting" in timeline(folder).output


def test_an_output_that_cannot_be_written_is_told(tmp_path):
    folder = write(tmp_path / "run", [FIT, *CLOCKS, *STEP])
    result = timeline(folder, "--output", folder / "run.jsonl" / "x")
    assert "`--output` must be a folder that can be written" in result.output


def test_one_thing_is_done_at_a_time(tmp_path):
    result = timeline(tmp_path, "--goodput")
    assert result.exit_code == 2
    assert "Only one of `--goodput` and `--timeline`" in result.output
