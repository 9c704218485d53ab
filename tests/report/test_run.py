"""Runs as their logs tell them, and beside each other."""

import json

import pytest
import run_logs

from tfdp.report.comparison import read, scalings
from tfdp.report.log_lines import fits
from tfdp.report.run import Run

UNKNOWN = {"kind": "weather", "sun": True}


def run(tmp_path, *lines, tail="", name="run"):
    return Run.read(run_logs.write(tmp_path / name, lines, tail))


def updates(*numbers, time=1000.0):
    return [
        {"kind": "update", "time": time + n, "epoch": 0, "update": n, "loss": n}
        for n in numbers
    ]


def test_rate_is_all_samples_over_the_seconds_of_the_longest_worker(tmp_path):
    of_run = run(
        tmp_path,
        run_logs.begin(workers=2),
        run_logs.window(10, seconds=2.0, samples=100, worker=0),
        run_logs.window(10, seconds=4.0, samples=140, worker=1),
        run_logs.window(20, seconds=5.0, samples=100, worker=0),
        run_logs.window(20, seconds=1.0, samples=110, worker=1),
    )
    assert of_run.samples_per_second == 450 / 9
    assert of_run.update_milliseconds == 9000 / 20


def test_parts_of_an_update_are_totals_over_updates(tmp_path):
    def replicas(*seconds):
        return [
            {"replica": i, "input_seconds": s, "compute_seconds": 2 * s}
            | {"waiting_seconds": None}
            for i, s in enumerate(seconds)
        ]

    of_run = run(
        tmp_path,
        run_logs.begin(),
        run_logs.window(10, replicas=replicas(0.1, 0.2)),
        run_logs.window(40, updates=30, replicas=replicas(0.7, 1.0)),
    )
    first, second = of_run.replica_times
    assert (first.worker, first.replica) == (0, 0)
    assert first.parts == pytest.approx({"input": 20, "compute": 40})
    assert second.parts == pytest.approx({"input": 30, "compute": 60})


def test_bounds_are_named_as_parts(tmp_path):
    window = run_logs.window(10, bounds=["waiting_seconds", "compute"])
    of_run = run(tmp_path, run_logs.begin(), window)
    assert of_run.bounds == {"waiting", "compute"}


def test_updates_made_anew_by_a_resumed_run_replace_those_lost(tmp_path):
    of_run = run(
        tmp_path,
        run_logs.begin(time=1000.0),
        *updates(10, 20, 30),
        run_logs.window(20),
        run_logs.window(30, samples=7),
        run_logs.begin(time=5000.0, update=20),
        *updates(30, 40, time=5000.0),
        run_logs.window(30, samples=8),
    )
    found = [line["time"] for line in of_run.lines("update")]
    assert found == [1010.0, 1020.0, 5030.0, 5040.0]
    assert [window.samples for window in of_run.windows] == [100, 8]
    assert of_run.updates == 40
    assert of_run.duration == 20 + 40


def test_a_run_from_zero_replaces_all_before(tmp_path):
    of_run = run(
        tmp_path,
        run_logs.begin(replicas=8),
        *updates(10),
        run_logs.begin(update=10),
        *updates(20),
        run_logs.begin(time=3000.0),
        *updates(5, time=3000.0),
    )
    assert [line["update"] for line in of_run.lines("update")] == [5]
    assert (of_run.replicas, len(of_run.fits)) == (2, 1)


def test_the_end_is_that_of_the_last_fit(tmp_path):
    end = {"kind": "end", "time": 1010.0, "update": 10, "words": "slow input"}
    begun = [run_logs.begin(), *updates(10), end]
    assert run(tmp_path, *begun).end == end
    assert run(tmp_path, *begun, run_logs.begin(update=10)).end is None


def test_a_last_line_cut_in_half_is_passed_over(tmp_path):
    lines = [run_logs.begin(), *updates(10)]
    assert run(tmp_path, *lines, tail='{"kind": "upd').updates == 10
    assert run(tmp_path, *lines, tail=json.dumps(updates(20)[0])).updates == 20


def test_other_kinds_and_empty_lines_are_passed_over(tmp_path):
    folder = run_logs.write(tmp_path, [UNKNOWN, run_logs.begin(), UNKNOWN])
    log = folder / "run.jsonl"
    log.write_text(log.read_text() + "\n\n" + json.dumps(updates(7)[0]) + "\n")
    assert Run.read(folder).updates == 7


def test_what_is_no_number_is_not_known(tmp_path):
    of_run = run(
        tmp_path,
        run_logs.begin(replicas=None),
        run_logs.window(10, seconds=None),
        run_logs.window(20, samples="many"),
    )
    assert of_run.replicas is None
    assert of_run.windows == []
    assert of_run.samples_per_second is None
    assert of_run.update_milliseconds is None


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"kind": "update", ', "Expecting property name"),
        ("[1, 2]", "a list"),
        ('{"kind": "update"}', 'kind "update" without a number "update"'),
        (
            '{"kind": "run", "update": 0, "time": null}',
            'kind "run" without a number "time"',
        ),
        ('{"kind": ["run"]}', "a \"kind\" that is ['run']"),
        ("[" * 100_000, ""),
        (
            f'{{"kind": "update", "update": 1{"0" * 400}}}',
            'kind "update" without a number "update" in range',
        ),
        (
            '{"kind": "run", "update": 0, "time": 1e300}',
            'kind "run" without a number "time" in range',
        ),
        (
            '{"kind": "window", "update": 1, "replicas": 5}',
            '"replicas" is no list: 5',
        ),
        (
            '{"kind": "window", "update": 1, "replicas": [1]}',
            '"replicas" are no objects',
        ),
        (
            '{"kind": "run", "update": 0, "time": 1, "versions": [1]}',
            '"versions" is no dict: [1]',
        ),
    ],
    ids=range(11),
)
def test_a_malformed_line_is_named(tmp_path, line, problem):
    folder = run_logs.write(tmp_path, [run_logs.begin()], tail=f"{line}\n\n")
    with pytest.raises(ValueError, match="must be a JSON object") as error:
        fits(folder)
    assert f"{folder / 'run.jsonl'}, line 2: {problem}" in str(error.value)


def test_what_a_terminal_would_obey_is_not_printed(tmp_path):
    words = "\x1b]0;title\x07 \ud800"
    end = {"kind": "end", "update": 1, "words": words}
    folder = run_logs.write(tmp_path, [run_logs.begin(), end])
    (lines,) = fits(folder)
    assert lines[-1]["words"] == "\ufffd]0;title\ufffd \ufffd"


@pytest.mark.parametrize("lines", [[], updates(10)])
def test_a_log_without_a_begin_is_refused(tmp_path, lines):
    folder = run_logs.write(tmp_path, lines)
    with pytest.raises(
        ValueError, match='a line of kind "run". Received: none'
    ):
        fits(folder)


def test_a_folder_without_a_log_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no run\.jsonl in it"):
        fits(tmp_path)
    with pytest.raises(ValueError, match="no such folder"):
        fits(tmp_path / "nowhere")


def measured(tmp_path, name, replicas, samples):
    lines = [run_logs.begin(replicas=replicas)]
    lines += [run_logs.window(10, seconds=2.0, samples=samples)]
    return run_logs.write(tmp_path / name, lines)


def test_speedup_and_efficiency_are_over_the_fewest_replicas(tmp_path):
    four, two = scalings(
        read(
            [
                measured(tmp_path, "four", 4, samples=1200),
                measured(tmp_path, "two", 2, samples=800),
            ]
        )
    )[::-1]
    assert (two.run.name, two.speedup, two.efficiency) == ("two", 1.0, 1.0)
    assert (four.run.name, four.speedup, four.efficiency) == ("four", 1.5, 0.75)
    assert four.samples_per_second == 600


def test_one_run_does_not_scale(tmp_path):
    runs = read(
        [
            measured(tmp_path, "a", 2, samples=800),
            run_logs.write(tmp_path / "b", [run_logs.begin(replicas=4)]),
        ]
    )
    assert scalings(runs) == []


def test_runs_have_as_much_of_their_paths_as_tells_them_apart(tmp_path):
    folders = [
        run_logs.write(tmp_path / path, [run_logs.begin()])
        for path in ("x/one/log", "y/one/log", "z/two/log", "z/other")
    ]
    assert [of_run.name for of_run in read(folders)] == [
        "x/one/log",
        "y/one/log",
        "two/log",
        "other",
    ]


def test_runs_can_be_given_names(tmp_path):
    folders = [measured(tmp_path, name, 1, samples=1) for name in "ab"]
    assert [r.name for r in read(folders, ["slow", "fast"])] == ["slow", "fast"]
    with pytest.raises(ValueError, match="1 names for 2 runs"):
        read(folders, ["slow"])
    with pytest.raises(ValueError, match="slow twice"):
        read(folders, ["slow", "slow"])
    with pytest.raises(ValueError, match="Every run must be given once"):
        read([folders[0], folders[0]])
