"""What a report draws and says of asynchronous workers."""

import struct

import run_logs

from tfdp.report.asynchrony import worker_parts
from tfdp.report.charts.breakdown_chart import breakdown_chart
from tfdp.report.charts.staleness_chart import staleness_charts
from tfdp.report.facts import facts, results, words
from tfdp.report.learning_figures import learning_figures
from tfdp.report.page import write_report
from tfdp.report.run import Run

BEGIN = run_logs.begin(asynchronous={"max_staleness": 4, "workers": 2})


def run(tmp_path, *lines, name="run"):
    return Run.read(run_logs.write(tmp_path / name, lines))


def trained(tmp_path, name="run"):
    return run(
        tmp_path,
        BEGIN,
        run_logs.staleness(10, 0, {"0": 4, "3": 2}),
        run_logs.staleness(10, 1, {"1": 3}),
        run_logs.staleness(20, 0, {"0": 1, "10": 3}),
        run_logs.staleness(20, 1, {"1": 2}),
        name=name,
    )


def charts(*runs):
    return {c.key: c for c in staleness_charts(worker_parts(runs))}


def bars(chart):
    return chart.spec["data"]["values"]


def test_epochs_add_up_by_worker(tmp_path):
    first, second = worker_parts([trained(tmp_path)])
    assert first.staleness == {0: 5, 3: 2, 10: 3}
    assert (first.updates, first.mean_staleness) == (10, 3.6)
    assert (first.computing_milliseconds, first.room_milliseconds) == (600, 400)
    assert (first.waiting_share, second.waiting_share) == (0.4, 2 / 14)
    assert (second.name, second.staleness) == ("worker 1", {1: 5})


def test_updates_made_anew_by_a_resumed_run_count_once(tmp_path):
    of_run = run(
        tmp_path,
        BEGIN,
        run_logs.staleness(10, 0, {"0": 4}),
        run_logs.staleness(20, 0, {"0": 5}),
        {**BEGIN, "update": 10},
        run_logs.staleness(20, 0, {"0": 6}),
    )
    (worker,) = worker_parts([of_run])
    assert worker.staleness == {0: 10}


def test_the_histogram_is_of_each_worker(tmp_path):
    chart = charts(trained(tmp_path))["staleness"]
    assert chart.rows == [
        ["worker 0", "10", "3.6", "10"],
        ["worker 1", "5", "1", "1"],
    ]
    drawn = {
        (bar["worker"], bar["stale"]): bar["updates"] for bar in bars(chart)
    }
    assert drawn == {
        ("worker 0", "0"): 5,
        ("worker 0", "3"): 2,
        ("worker 0", "10"): 3,
        ("worker 1", "1"): 5,
    }
    # Staleness that no update had has its place too.
    x = chart.spec["encoding"]["x"]
    assert x["sort"] == [str(stale) for stale in range(11)]


def test_the_time_of_a_worker_is_computing_and_waiting(tmp_path):
    chart = charts(trained(tmp_path))["room"]
    assert chart.rows == [
        ["worker 0", "600 ms", "400 ms", "40 %"],
        ["worker 1", "2,400 ms", "400 ms", "14 %"],
    ]
    assert [(b["bar"], b["part"], b["ms"]) for b in bars(chart)] == [
        ("worker 0", "computing", 600),
        ("worker 0", "waiting for room", 400),
        ("worker 1", "computing", 2400),
        ("worker 1", "waiting for room", 400),
    ]


def test_workers_of_several_runs_are_told_apart(tmp_path):
    runs = [trained(tmp_path, name) for name in ("one", "two")]
    names = [row[0] for row in charts(*runs)["room"].rows]
    assert names == [
        *("one: worker 0", "one: worker 1"),
        *("two: worker 0", "two: worker 1"),
    ]


def test_a_wide_histogram_and_many_workers_are_put_together(tmp_path):
    lines = [
        run_logs.staleness(10, worker, {str(100 + worker): 2})
        for worker in range(20)
    ]
    chart = charts(run(tmp_path, BEGIN, *lines))["staleness"]
    assert len(chart.rows) == 20
    workers = {bar["worker"] for bar in bars(chart)}
    assert workers == {*(f"worker {i}" for i in range(7)), "other workers"}
    assert bars(chart)[0]["stale"] == "100 – 101"
    assert sum(bar["updates"] for bar in bars(chart)) == 40


def test_what_is_no_count_is_passed_over(tmp_path):
    histogram = {"-1": 2, "a": 2, "9" * 5000: 2, "1": None, "2": 3, "3": -4}
    line = run_logs.staleness(10, 0, {"0": 1})
    of_run = run(tmp_path, BEGIN, {**line, "staleness": histogram})
    (worker,) = worker_parts([of_run])
    assert worker.staleness == {2: 3}
    empty = run(tmp_path, BEGIN, {**line, "staleness": None})
    assert worker_parts([empty]) == []


def test_synchronous_runs_have_none_of_it(tmp_path):
    of_run = run(tmp_path, run_logs.begin(), run_logs.window(10))
    assert charts(of_run) == {}
    assert "Asynchronous" not in dict(facts(of_run))
    (page, *_) = write_report([of_run], tmp_path / "report")
    assert "Asynchrony" not in page.read_text()


def test_the_page_has_a_part_for_it(tmp_path):
    page, *images = write_report([trained(tmp_path)], tmp_path / "report")
    assert '<section aria-label="Asynchrony">' in page.read_text()
    assert [path.stem for path in images] == ["staleness", "room"]
    for path in images:
        width, height = struct.unpack(">II", path.read_bytes()[16:24])
        assert width > 1400
        assert height > 200


def test_a_run_is_told_in_words(tmp_path):
    end = {"kind": "end", "update": 20, "words": "computation is 90 %."}
    end["room_words"] = "workers wait for room 5 % of the time."
    of_run = run(tmp_path, BEGIN, end)
    assert words(of_run) == (
        "Computation is 90\xa0%. Workers wait for room 5\xa0% of the time."
    )
    told = dict(facts(of_run))
    assert told["Asynchronous"] == "2 workers, max_staleness=4"
    assert "Workers" not in told
    assert "samples per second, of the chief" in dict(results(of_run))
    end["words"] = end["room_words"]
    assert words(run(tmp_path, BEGIN, end)).count("room") == 1
    begin = run_logs.begin(asynchronous={"max_staleness": 0})
    assert dict(facts(run(tmp_path, begin)))["Asynchronous"] == (
        "max_staleness=0"
    )


def test_figures_of_it_are_no_metrics(tmp_path):
    logs = {"staleness_mean": 1.5, "staleness_max": 3, "loss": 2.0}
    logs |= {"updates_of_all_workers": 12, "room_wait_fraction": 0.1}
    of_run = run(tmp_path, BEGIN, {"kind": "epoch", "update": 9, **logs})
    assert [f.key for f in learning_figures([of_run])] == ["metric_loss"]


def test_waiting_for_room_is_a_part_of_an_update(tmp_path):
    parts = {"compute": 2.0, "room": 1.0, "other": 0.5}
    replica = {f"{part}_seconds": x for part, x in parts.items()}
    line = run_logs.window(10, replicas=[{"replica": 0, **replica}])
    chart = breakdown_chart([run(tmp_path, BEGIN, line)])
    assert chart.head == ["Replica", "Compute", "Room", "Other", "Sum"]
    assert "Room is waiting until a gradient is not too stale" in chart.caption
