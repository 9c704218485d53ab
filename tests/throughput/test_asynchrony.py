"""What is said of asynchronous workers, from what their server counts."""

import json
import math

from tfdp.throughput.asynchrony import Asynchrony, Share
from tfdp.throughput.asynchrony_table import print_asynchrony


def statistics(**changes):
    return {
        "version": 9,
        "max_staleness": 2,
        "staleness": {"0": {"0": 2, "2": 4}, "1": {"1": 3}},
        "updates": {"0": 6, "1": 3},
        "skipped": {"1": 1},
        "waited": {
            "0": {"read": 1.0, "update": 2.0},
            "1": {"read": 0.0, "update": 0.5},
        },
        "computed": {"0": 3.0, "1": 4.5},
        "learning_rates": [],
        "living": [0, 1],
        "lost": {},
        **changes,
    }


def test_each_worker_has_its_share():
    found = Asynchrony.of(statistics())
    assert found.bound == 2
    assert found.updates == 9
    first, second = found.workers[0], found.workers[1]
    assert (first.updates, first.mean_staleness) == (6, 8 / 6)
    assert (first.max_staleness, second.max_staleness) == (2, 1)
    assert first.waiting_share == 0.5
    assert (first.skipped, second.skipped) == (0, 1)
    assert (first.gradient_seconds, second.gradient_seconds) == (0.5, 1.5)
    assert found.waiting_share == 3.5 / 11
    assert (found.slowest, found.slowness) == (1, 3)


def test_a_stretch_is_what_was_added():
    later = statistics(
        staleness={"0": {"0": 2, "1": 1, "2": 4}, "1": {"1": 3}, "2": {"0": 1}},
        waited={w: {"read": 1.0, "update": 3.0} for w in "012"},
        computed={"0": 3.5, "1": 4.5, "2": 1.0},
        lost={"1": "it was killed"},
    )
    found = Asynchrony.of(later).since(Asynchrony.of(statistics()))
    assert found.workers == {
        0: Share({1: 1}, computing=0.5, waiting=1.0),
        1: Share({}, computing=0.0, waiting=3.5, lost="it was killed"),
        2: Share({0: 1}, computing=1.0, waiting=4.0),
    }
    assert found.updates == 2


def test_a_lost_worker_is_not_the_slow_one():
    lost = statistics(lost={"1": "it was killed"})
    assert Asynchrony.of(lost).slowest == 0


def test_figures_are_those_of_one_worker():
    found = Asynchrony.of(statistics())
    assert found.as_logs(1) == {
        "staleness_mean": 1.0,
        "staleness_max": 1,
        "updates_of_all_workers": 9,
    }
    logs = found.as_logs(7)
    assert logs["updates_of_all_workers"] == 9
    assert math.isnan(logs["staleness_mean"])
    assert math.isnan(logs["staleness_max"])


def test_nothing_has_no_shares():
    nothing = Asynchrony(2, {0: Share({}, 0.0, 0.0)})
    assert math.isnan(nothing.waiting_share)
    assert (nothing.slowest, nothing.slowness) == (None, 1)
    assert math.isnan(nothing.workers[0].gradient_seconds)


def test_a_run_has_a_row_of_each_worker():
    rows = Asynchrony.of(statistics(lost={"1": "it was killed"})).rows()
    assert rows[1] == {
        "worker": 1,
        "max_staleness": 2,
        "updates": 3,
        "skipped": 1,
        "staleness": {"1": 3},
        "computing_seconds": 4.5,
        "room_seconds": 0.5,
        "lost": "it was killed",
    }
    assert rows[0]["lost"] is None
    assert json.loads(json.dumps(rows)) == rows


def printed(capsys, *arguments):
    print_asynchrony(*arguments)
    lines = capsys.readouterr().out.splitlines()
    return [" ".join(line.split()) for line in lines]


def test_the_table_has_a_row_of_each_worker(capsys):
    lost = {"1": "it [was] killed"}
    found = Asynchrony.of(statistics(lost=lost))
    lines = printed(capsys, found, "nobody [is] slow.")
    assert "9 updates of all workers, at max_staleness=2" in lines
    assert "0 6 1.33 2 50 % 500.00" in lines
    assert "1 3 1.00 1 10 % 1,500.00" in lines
    assert "worker 1 was lost: it [was] killed" in lines
    assert lines[-1] == "tfdp: nobody [is] slow."


def test_what_is_not_known_is_a_dash(capsys):
    found = Asynchrony(2, {0: Share({}, 0.0, 0.0)})
    assert "0 0 – – – –" in printed(capsys, found, "")


def test_of_many_workers_the_slowest_is_shown(capsys):
    workers = {w: Share({0: 1}, 1.0 + (w == 33), 0.0) for w in range(40)}
    lines = printed(capsys, Asynchrony(39, workers), "")
    assert "17 of 40 workers" in lines
    assert "33 1 0.00 0 0 % 2,000.00" in lines
