"""Single steps of two workers, as a run has told of them."""

import json

import pytest
import trace_events
from click.testing import CliRunner
from places import SHARED

import tfdp
from tfdp.cli import main

AHEAD = 3.7
ROUND = 1e-5

pytestmark = pytest.mark.multi_worker


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    script = SHARED / "timeline_training.py"
    args = [str(folder), str(AHEAD)]
    return folder, tfdp.testing.run_workers(script, 2, args, timeout=300)


@pytest.fixture(scope="module")
def trace(trained):
    folder, _ = trained
    out = folder / "out"
    result = CliRunner().invoke(
        main, ["report", "--timeline", str(folder), "--output", str(out)]
    )
    assert result.exit_code == 0, result.output
    return trace_events.read(out / "timeline.json")


def test_clocks_are_known_to_a_millisecond(trained):
    for reports in zip(*trained[1], strict=True):
        assert reports[0] == reports[1]
    own, shifted = trained[1][0]
    for (offsets, errors), truth in ((own, 0.0), (shifted, AHEAD)):
        assert (offsets[0], errors[0]) == (0, 0)
        wrong = abs(offsets[1] - truth)
        assert wrong < 1e-3
        assert wrong <= errors[1] + ROUND


def test_the_trace_states_a_true_error(trace):
    chief, other = trace["otherData"]["clocks"].popitem()[1]
    assert (chief["ahead_ms"], chief["error_ms"]) == (0, 0)
    wrong = abs(other["ahead_ms"] - 1000 * AHEAD)
    assert wrong < 1
    assert wrong <= other["error_ms"] + 1000 * ROUND


def test_both_workers_end_a_reduction_at_once(trace):
    ends = [
        [
            begin + took
            for name, begin, took in trace_events.slices(trace, pid, 1)
            if name == "communication"
        ]
        for pid in (1, 2)
    ]
    assert len(ends[0]) == len(ends[1]) > 8
    between = sorted(abs(a - b) for a, b in zip(*ends, strict=True))
    # In the median, as either may be held up just then.
    assert between[len(between) // 2] < 5000


def test_the_first_steps_are_told_and_then_every_eighth(trace):
    for pid in (1, 2):
        numbers = [
            event["args"]["number"]
            for event in trace["traceEvents"]
            if (event["pid"], event["tid"]) == (pid, 1)
            and event["name"] == "step"
        ]
        assert numbers == [*range(8), *range(8, 80, 8)]


def test_what_workers_do_between_steps_is_told(trace):
    for pid in (1, 2):
        names = {name for name, _, _ in trace_events.slices(trace, pid, 0)}
        assert {
            *("starting", "tracing", "training", "callbacks"),
            *("validating", "pause", "steps", "saving"),
        } <= names


def test_a_run_without_a_timeline_has_none(tmp_path, strategy):
    import problem
    from keras.optimizers import SGD

    with strategy.scope():
        model = problem.make_model()
        model.compile(tfdp.DistributedOptimizer(SGD(0.05)), "mse")
    for name, timeline in (("with", 2), ("without", 0)):
        model.fit(
            problem.dataset(64, 16),
            verbose=0,
            callbacks=[
                tfdp.callbacks.DataParallel(),
                tfdp.callbacks.ThroughputMonitor(verbose=0),
                tfdp.callbacks.RunLogger(tmp_path / name, timeline=timeline),
            ],
        )
    assert not (tmp_path / "without" / "timeline.jsonl").exists()
    text = (tmp_path / "with" / "timeline.jsonl").read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    replicas = strategy.num_replicas_in_sync
    assert (rows[0]["kind"], rows[0]["replicas"]) == ("fit", replicas)
    batches = [
        b for row in rows if row["kind"] == "spans" for b in row["batches"]
    ]
    assert sorted({(b[0], b[-1]) for b in batches}) == [
        (step, replica) for step in (0, 1, 2) for replica in range(replicas)
    ]
