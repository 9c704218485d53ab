"""What a report draws, and that a log cannot get into its page."""

import html.parser
import json
import struct

import pytest
import run_logs

from tfdp.report.charts.breakdown_chart import breakdown_chart
from tfdp.report.charts.line_chart import line_chart
from tfdp.report.charts.scaling_chart import scaling_chart
from tfdp.report.comparison import read, scalings
from tfdp.report.curve import Curve, Point
from tfdp.report.facts import facts, results, words
from tfdp.report.figure import MOST_POINTS
from tfdp.report.learning_figures import learning_figures
from tfdp.report.page import PAGE, page, summary, write_report
from tfdp.report.run import Run
from tfdp.report.speed_figures import speed_figures
from tfdp.report.words import duration, figure, milliseconds, percent

HOSTILE = '</script><script>alert(1)</script><img src=x onerror="alert(2)">'


def run(tmp_path, *lines, name="run"):
    return Run.read(run_logs.write(tmp_path / name, lines))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return read(
        [
            run_logs.write(folder / name, run_logs.trained(*sizes, seed=seed))
            for seed, (name, *sizes) in enumerate(
                [("one", 1, 1), ("two", 1, 2), ("four", 2, 4)]
            )
        ]
    )


@pytest.fixture(scope="module")
def written(runs, tmp_path_factory):
    return write_report(runs, tmp_path_factory.mktemp("report") / "new")


def by_key(figures):
    return {figure.key: figure for figure in figures}


def test_every_chart_is_an_image(written):
    first, *images = written
    assert first.name == PAGE
    assert {path.stem for path in images} == {
        *("scaling", "breakdown", "throughput", "throughput_by_worker"),
        "goodput",
        *("throughput_by_replica", "step_time", "memory", "metric_loss"),
        *("metric_accuracy", "learning_rate", "loss_scale", "noise_scale"),
        "skipped_updates",
    }
    for path in images:
        content = path.read_bytes()
        assert content.startswith(b"\x89PNG\r\n\x1a\n")
        width, height = struct.unpack(">II", content[16:24])
        assert width > 1400
        assert height > 300
        assert len(content) > 20_000


def test_page_is_small_enough_to_send(written):
    assert written[0].stat().st_size < 3_000_000


def test_training_is_drawn_by_update_and_by_epoch(tmp_path):
    of_run = run(
        tmp_path,
        run_logs.begin(),
        {"kind": "update", "update": 5, "loss": 3.0, "words": "none"},
        {"kind": "update", "update": 10, "loss": None},
        {"kind": "epoch", "update": 10, "loss": 2.0, "val_loss": 2.5}
        | {"input_wait_fraction": 0.1, "step_seconds_p50": 0.2, "seconds": 3},
    )
    (loss,) = learning_figures([of_run])
    curves = {curve.name: curve.points for curve in loss.curves}
    assert curves == {
        "training": [Point(5, 3.0), Point(10, None)],
        "training, whole epoch": [Point(10, 2.0)],
        "validation": [Point(10, 2.5)],
    }


def test_loss_comes_first_and_is_logarithmic_where_it_falls_far(tmp_path):
    lines = [
        {"kind": "update", "update": n, "accuracy": a, "loss": loss}
        for n, a, loss in [(1, 0.01, 9.0), (2, 0.9, 0.1)]
    ]
    loss, accuracy = learning_figures([run(tmp_path, run_logs.begin(), *lines)])
    assert (loss.key, loss.log) == ("metric_loss", True)
    assert (accuracy.key, accuracy.log) == ("metric_accuracy", False)


def test_a_processor_has_no_memory_of_its_own(tmp_path):
    window = run_logs.window(10, replicas=[{"memory_bytes": 0.0}])
    found = by_key(speed_figures([run(tmp_path, run_logs.begin(), window)]))
    assert "memory" not in found


def test_a_curve_that_does_not_change_is_drawn_from_zero(tmp_path):
    def is_from_zero(*values):
        lines = [
            {"kind": "update", "update": n, "loss": x}
            for n, x in enumerate(values)
        ]
        (loss,) = learning_figures([run(tmp_path, run_logs.begin(), *lines)])
        layer, *_ = line_chart(loss, ["run"]).spec["layer"]
        return layer["encoding"]["y"]["scale"]["zero"]

    assert is_from_zero(0.1, 0.1)
    assert not is_from_zero(0.1, 0.2)


def test_every_rate_of_an_optimizer_is_drawn(tmp_path):
    rates = {"learning_rate_0": 0.1, "learning_rate_1": 0.2}
    update = {"kind": "update", "update": 1, **rates}
    (found,) = learning_figures([run(tmp_path, run_logs.begin(), update)])
    names = [curve.name for curve in found.curves]
    assert names == ["learning rate 0", "learning rate 1"]


def test_a_scale_known_only_at_epochs_is_drawn_from_them(tmp_path):
    epoch = {"kind": "epoch", "update": 9, "noise_scale": 80.0}
    (found,) = learning_figures([run(tmp_path, run_logs.begin(), epoch)])
    assert found.curves[0].points == [Point(9, 80.0)]


def test_rates_are_of_workers_and_replicas(tmp_path):
    def window(worker, seconds, *samples):
        replicas = [
            {"replica": 2 * worker + i, "samples": n}
            for i, n in enumerate(samples)
        ]
        return run_logs.window(
            10, seconds, sum(samples), worker=worker, replicas=replicas
        )

    of_run = run(
        tmp_path,
        run_logs.begin(workers=2, replicas=4),
        window(0, 2.0, 10, 30),
        window(1, 4.0, 20, 60),
    )
    rates = {
        (key, curve.name): curve.values
        for key, found in by_key(speed_figures([of_run])).items()
        for curve in found.curves
    }
    assert rates == {
        ("throughput", "total"): [30.0],
        ("throughput_by_worker", "worker 0"): [20.0],
        ("throughput_by_worker", "worker 1"): [20.0],
        ("throughput_by_replica", "replica 0"): [5.0],
        ("throughput_by_replica", "replica 1"): [15.0],
        ("throughput_by_replica", "replica 2"): [5.0],
        ("throughput_by_replica", "replica 3"): [15.0],
    }


def test_many_replicas_are_drawn_by_their_extent(tmp_path):
    replicas = [{"replica": i, "samples": 10 * i} for i in range(64)]
    window = run_logs.window(10, seconds=1.0, replicas=replicas)
    found = by_key(speed_figures([run(tmp_path, run_logs.begin(), window)]))
    curves = found["throughput_by_replica"].curves
    assert {curve.name: curve.values for curve in curves} == {
        "slowest": [0.0],
        "median": [315.0],
        "fastest": [630.0],
    }


def test_memory_and_steps_are_those_of_the_worst_worker(tmp_path):
    windows = [
        run_logs.window(
            10,
            worker=worker,
            memory_bytes=gib * 2**30,
            step_seconds_p50=0.01 * gib,
            flops_per_second=1e9,
            replicas=[{"memory_bytes": 2**30}, {"memory_bytes": None}],
        )
        for worker, gib in enumerate([1, 3])
    ]
    found = by_key(speed_figures([run(tmp_path, run_logs.begin(), *windows)]))
    memory = {c.name: c.values for c in found["memory"].curves}
    assert memory == {"worker": [3.0], "replica": [1.0]}
    assert found["step_time"].curves[0].values == [30.0]
    assert found["arithmetic"].curves[0].values == [2.0]


def test_a_rate_is_averaged_by_seconds():
    rates = [(1, 300.0, 1.0), (2, 100.0, 3.0), (3, 50.0, 2.0), (4, None, 1.0)]
    points = [Point(*rate) for rate in rates]
    assert Curve("run", "rate", points).thinned(2).points == [
        Point(2, 150.0, 4.0),
        Point(4, 50.0, 2.0),
    ]


def test_what_is_no_number_stays_a_gap():
    points = [Point(n, None) for n in range(4)]
    thinned = Curve("run", "rate", points).thinned(2)
    assert [point.value for point in thinned.points] == [None, None]


def test_curves_of_two_runs_that_coincide_are_found(tmp_path):
    def drawn(a, b):
        runs = [
            run(
                tmp_path,
                run_logs.begin(),
                *(
                    {"kind": "update", "update": n, "loss": x}
                    for n, x in values.items()
                ),
                name=name,
            )
            for name, values in [("a", a), ("b", b)]
        ]
        (loss,) = learning_figures(runs)
        lines = line_chart(loss, ["a", "b"]).spec["layer"][0]
        about = lines["transform"][0]["from"]["data"]["values"]
        return [curve["width"] for curve in about]

    assert drawn({1: 2.0, 2: 1.0}, {1: 2.0, 2: 1.001}) == [3.25, 1.75]
    assert drawn({1: 2.0, 2: 1.0}, {1: 2.0, 2: 1.1}) == [1.75, 1.75]
    assert drawn({1: 2.0, 2: 1.0}, {3: 2.0}) == [1.75, 1.75]


def test_long_curves_are_thinned_and_the_caption_says_so(tmp_path):
    lines = [
        {"kind": "update", "update": n, "loss": float(n)}
        for n in range(1, 20_001)
    ]
    (loss,) = learning_figures([run(tmp_path, run_logs.begin(), *lines)])
    chart = line_chart(loss, ["run"])
    assert f"averaged to {MOST_POINTS} points" in chart.caption
    points = chart.spec["data"]["values"]
    assert len(points) == MOST_POINTS
    assert points[0] == {"s": "s0", "u": 40, "v": 20.5}
    assert chart.rows == [["training", "1", "20,000", "1", "20,000"]]


def test_curves_of_several_runs_have_the_colours_of_the_runs(runs):
    names = [of_run.name for of_run in runs]
    found = by_key(speed_figures(runs))
    for key in ("throughput", "throughput_by_replica"):
        text = json.dumps(line_chart(found[key], names).spec)
        for place in range(3):
            assert f"var(--series-{place})" in text
        assert "var(--series-3)" not in text
    rows = line_chart(found["throughput_by_worker"], names).rows
    assert [row[0] for row in rows][-2:] == ["four: worker 0", "four: worker 1"]


def test_a_run_keeps_its_colour_where_another_has_no_curve(tmp_path):
    update = {"kind": "update", "update": 1, "loss": 1.0}
    runs = [
        run(tmp_path, run_logs.begin(), name="a"),
        run(tmp_path, run_logs.begin(), update, name="b"),
    ]
    (loss,) = learning_figures(runs)
    text = json.dumps(line_chart(loss, ["a", "b"]).spec)
    assert '"domain": ["b"], "range": ["var(--series-1)"]' in text


def test_breakdown_is_in_milliseconds_per_update(tmp_path):
    replicas = [
        {"replica": 0, "input_seconds": 0.05, "compute_seconds": 0.3},
        {"replica": 1, "input_seconds": 0.05, "compute_seconds": None},
    ]
    window = run_logs.window(10, replicas=replicas, bounds=["input_seconds"])
    chart = breakdown_chart([run(tmp_path, run_logs.begin(), window)])
    assert chart.head == ["Replica", "Input", "Compute", "Sum"]
    assert chart.rows == [
        ["replica 0", "5.00 ms", "30.0 ms", "35.0 ms"],
        ["replica 1", "5.00 ms", "–", "5.00 ms"],
    ]
    assert chart.caption.endswith("only bounds: input.")


def test_scaling_is_drawn_over_the_ideal(runs):
    chart = scaling_chart(scalings(runs), [of_run.name for of_run in runs])
    ideal = chart.spec["layer"][0]["data"]["values"]
    assert ideal == [{"replicas": n, "speedup": n} for n in (1, 2, 4)]
    assert chart.rows[0][-2:] == ["1.00 ×", "100 %"]
    assert scaling_chart(scalings(runs[:1]), ["one"]) is None


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (None, {}),
        (
            {"kind": "update", "update": 1, "loss": 1.0},
            {"Learning": ["metric_loss"]},
        ),
        (run_logs.window(10), {"Speed": ["throughput"]}),
    ],
)
def test_a_chart_without_numbers_is_left_out(tmp_path, line, expected):
    lines = [run_logs.begin()] + ([line] if line else [])
    of_run = run(tmp_path, *lines)
    _, *images = write_report([of_run], tmp_path / "report")
    names = [path.stem for path in images]
    assert names == [name for part in expected.values() for name in part]


def test_a_run_is_told_in_words(tmp_path):
    end = {"kind": "end", "update": 30, "time": 1100.0}
    end["words"] = "input is 61 % of a step"
    of_run = run(
        tmp_path,
        run_logs.begin(),
        run_logs.begin(update=10),
        run_logs.window(30, seconds=2.0, samples=300, updates=20),
        {"kind": "epoch", "update": 30, "time": 1095.0, "val_loss": 0.25},
        end,
    )
    assert words(of_run) == "Input is 61\xa0% of a step"
    assert dict(results(of_run)) == {
        "samples per second": "150",
        "per update": "100 ms",
        "updates": "30",
        "from begin to end": "1 min 40 s",
        "validation loss": "0.25",
    }
    assert dict(facts(of_run)) == {
        "Strategy": "MirroredStrategy",
        "Workers": "1",
        "Replicas": "2",
        "Devices": "2 × CPU",
        "Accumulation": "4 steps",
        "Optimizer": "SGD",
        "Parameters": "10,240",
        "Machine": "x86_64, 2 cores",
        "Versions": "tfdp 0.1.0, TensorFlow 2.21.0, Keras 3.15.1, "
        "Python 3.11.7",
        "Began": "1970-01-01 00:16 UTC",
        "Resumed": "at update 10",
    }


def test_a_run_that_says_little_of_itself_is_told_too(tmp_path):
    of_run = run(tmp_path, {"kind": "run", "time": 0, "update": 0})
    assert words(of_run).startswith("The run has not ended")
    assert facts(of_run) == [("Began", "1970-01-01 00:00 UTC")]
    assert ("per update", "–") in results(of_run)
    workers = run(tmp_path, run_logs.begin(workers=2, devices=["GPU"]))
    assert ("Devices", "GPU on each worker") in facts(workers)
    ended = {"kind": "end", "update": 0, "words": None}
    assert words(run(tmp_path, run_logs.begin(), ended)).startswith("Nothing")


def test_numbers_are_written_for_readers():
    assert [figure(x) for x in (12345.6, 0.25, 0.0, 3.0, 1e-7, -0.5)] == [
        *("12,346", "0.25", "0", "3", "1e-07", "-0.5")
    ]
    assert [milliseconds(x) for x in (1234.5, 19.04, 1.234, None)] == [
        *("1,234 ms", "19.0 ms", "1.23 ms", "–")
    ]
    assert (percent(0.614), percent(None)) == ("61 %", "–")
    assert duration(7384) == "2 h 3 min"


def test_summary_has_a_row_for_each_run(runs):
    head, rows = summary(runs)
    assert head[-2:] == ["Speed-up", "Efficiency"]
    assert [row[:3] for row in rows] == [
        ["one", "1", "2,000"],
        ["two", "2", "2,000"],
        ["four", "4", "2,000"],
    ]
    assert len(summary(runs[:1])[0]) == len(head) - 2


class Elements(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)


def test_a_log_cannot_get_into_the_page(tmp_path):
    lines = [
        run_logs.begin(machine=HOSTILE, devices=[HOSTILE], versions={}),
        {"kind": "update", "update": 1, HOSTILE: 1.0},
        {"kind": "end", "update": 1, "time": 1001.0, "words": f"`{HOSTILE}`"},
    ]
    folder = run_logs.write(tmp_path / "run", lines)
    output = tmp_path / "report"
    path, image = write_report(read([folder], [HOSTILE]), output)
    assert image.parent == output
    elements = Elements(path.read_text())
    assert [tag for tag, _ in elements.tags].count("script") == 2
    assert not any("onerror" in attrs for _, attrs in elements.tags)
    assert {"code"} <= {tag for tag, _ in elements.tags}
    assert HOSTILE in elements.text  # as the heading, to be read
    (data,) = [text for text in elements.text if text.startswith('{"chart-')]
    assert json.loads(data)


def test_metrics_of_nearly_the_same_name_have_their_own_files(tmp_path):
    update = {"kind": "update", "update": 1, "a/b": 1.0, "a:b": 2.0, "A b": 3.0}
    of_run = run(tmp_path, run_logs.begin(), update)
    _, *images = write_report([of_run], tmp_path / "report")
    assert [path.stem for path in images] == [
        *("metric_a_b", "metric_a_b_2", "metric_A_b_3")
    ]


def test_page_is_the_same_for_the_same_logs(runs):
    assert page(runs, {}) == page(runs, {})


def test_what_was_counted_is_named_throughout(tmp_path):
    lines = [run_logs.begin(unit="tokens"), run_logs.window(10)]
    run = Run.read(run_logs.write(tmp_path, lines))
    throughput = speed_figures([run])[0]
    assert throughput.axis == "Tokens per second"
    assert "Tokens/s" in summary([run])[0]
    assert results(run)[0][0] == "tokens per second"


@pytest.mark.sampled
@pytest.mark.parametrize("letter", ["m", "m_", "ä "])
def test_a_long_name_of_a_metric_is_shortened_and_told(tmp_path, letter):
    name = (200 * letter)[:200].strip()
    lines = [
        {**line, name: 0.5} if line["kind"] == "epoch" else line
        for line in run_logs.trained(1, 1, updates=20, every=5)
    ]
    assert any(name in line for line in lines)
    found = run(tmp_path, *lines)
    figure = by_key(learning_figures([found]))[f"metric_{name}"]
    assert (len(figure.title), len(figure.axis)) == (60, 30)
    assert figure.title.endswith("…")
    assert figure.caption.endswith(f" The metric is {name}.")
    _, *images = write_report([found], tmp_path / "out")
    assert any(image.name.startswith("metric_") for image in images)
