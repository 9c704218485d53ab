"""Parts of a job's time, which add up to the whole."""

import json
import math

import pytest
import run_logs
from hypothesis import given
from hypothesis import strategies as st

from tfdp.report import logged_goodput
from tfdp.report.charts.goodput_chart import goodput_chart
from tfdp.report.goodput import PARTS, Attempt, Goodput
from tfdp.report.goodput.attempts import LoggedAttempts
from tfdp.report.run import Run

START = {"kind": "start", "time": 10.0, "attempt": "a", "launched": 9.0}
EXIT = {
    "kind": "exit",
    "time": 20.0,
    "attempt": "a",
    "spent": {"starting": 2.0, "training": 8.0},
    "update": 4,
    "made": 4,
}


def attempt(started, ended, update=0, made=0, **others):
    spent = others.pop("spent", {"starting": 1.0, "training": 4.0})
    return Attempt(
        started, ended, update=update, made=made, spent=spent, **others
    )


def parts(goodput):
    return {name: seconds for name, seconds in goodput.parts.items() if seconds}


def test_a_job_with_a_loss():
    states = {
        "starting": 3.0,
        "meeting": 1.0,
        "pause": 0.5,
        "tracing": 2.0,
        "first_step": 0.25,
        "training": 7.0,
        "callbacks": 0.75,
        "saving": 0.5,
        "validating": 1.0,
    }
    first = Attempt(
        *(100.0, 118.0),
        launched=99.0,
        lost=116.0,
        spent=states,
        update=10,
        made=10,
        unfinished=1.0,
    )
    again = {"starting": 2.0, "replaying": 1.0, "training": 4.0, "ended": 1.0}
    second = Attempt(
        *(121.0, 130.0), launched=99.0, spent=again, update=12, made=4
    )
    goodput = Goodput.of([first, second])
    # Seven seconds for ten updates, of which two were made again.
    assert parts(goodput) == pytest.approx(
        {
            "updates": 7.0 * 8 / 10 + 4.0,
            "tracing": 2.0,
            "validation": 1.0,
            "backups": 0.5,
            "waiting": 1.0 + 3.0,
            "repeating": 7.0 * 2 / 10 + 1.0 + 1.0,
            "noticing": 2.0,
            "starting": 1.0 + 3.0 + 2.0,
            "other": 0.5 + 1.0 + 1.0,
        }
    )
    assert goodput.seconds == pytest.approx(31.0)
    assert (goodput.made, goodput.repeated) == (14, 2)
    assert (goodput.starts, goodput.losses, goodput.stopped) == (2, 1, 0.0)
    assert str(goodput) == (
        "31 % of 31.0 s; 19 % starting, 13 % waiting, 11 % repeating, "
        "8 % other, 6 % tracing, 6 % noticing, 3 % validation, 2 % backups. "
        "2 starts, 1 loss, 14 updates, 2 of them made again."
    )


def test_an_update_counts_where_it_was_made_last():
    # 1..10, then 6..8, then 4..12: 1..3 remain of the first.
    goodput = Goodput.of(
        [
            attempt(0.0, 5.0, 10, 10),
            attempt(5.0, 10.0, 8, 3),
            attempt(10.0, 15.0, 12, 9),
        ]
    )
    assert goodput.made - goodput.repeated == 12
    assert goodput.repeated == 7 + 3
    assert goodput.parts["updates"] == pytest.approx(4.0 * 3 / 10 + 4.0)


def test_a_start_in_vain_loses_nothing():
    idle = attempt(5.0, 6.0, -1, spent={"starting": 1.0})
    goodput = Goodput.of(
        [attempt(0.0, 5.0, 10, 10), idle, attempt(6.0, 11.0, 12, 2)]
    )
    assert goodput.repeated == 0
    assert goodput.parts["updates"] == 8.0


def test_steps_without_an_update_are_no_goodput():
    goodput = Goodput.of([attempt(0.0, 5.0, 0, 0)])
    assert goodput.parts["updates"] == 0
    assert goodput.parts["other"] == 4.0


def test_the_time_between_two_launches_is_told_apart():
    goodput = Goodput.of(
        [
            attempt(0.0, 5.0, 5, 5, launched=0.0),
            attempt(66.0, 71.0, 9, 4, launched=65.0),
            # Its launcher was there before the end of the other.
            attempt(75.0, 80.0, 13, 4, launched=70.0),
            # By one process, without a launcher.
            attempt(90.0, 95.0, 17, 4),
        ]
    )
    assert goodput.stopped == 60.0 + 10.0
    assert goodput.parts["waiting"] == 4.0
    assert goodput.parts["starting"] == 4.0 + 1.0
    assert goodput.seconds == 25.0
    assert "not running for 1 min 10 s between" in str(goodput)


def test_a_clock_that_was_set_back_takes_nothing_away():
    goodput = Goodput.of([attempt(50.0, 55.0, 5, 5), attempt(20.0, 25.0, 9, 4)])
    assert goodput.seconds == 10.0
    assert goodput.parts["updates"] == 8.0


def test_nothing_has_no_share():
    goodput = Goodput.of([])
    assert goodput.share is None
    assert str(goodput) == "– of 0.0 s. 0 starts, 0 updates."


STATES = (
    *("starting", "meeting", "pause", "tracing", "training", "callbacks"),
    *("waiting", "validating", "saving", "ended", "first_step", "replaying"),
    "unheard_of",
)
seconds = st.floats(0.0, 1e6)


@st.composite
def timelines(draw):
    """Attempts one after the other, and the time from first to last."""
    now, found, between, launched = draw(seconds), [], 0.0, None
    for _ in range(draw(st.integers(1, 6))):
        is_launch = launched is None or draw(st.booleans())
        gap = draw(seconds) if found else 0.0
        now += gap
        if is_launch:
            launched = now
            between += gap
        spent = draw(st.dictionaries(st.sampled_from(STATES), seconds))
        before, notice = draw(seconds), draw(seconds)
        lost = draw(st.booleans())
        ended = now + sum(spent.values()) + before + notice
        made = draw(st.integers(0, 9))
        found.append(
            Attempt(
                now,
                ended,
                launched=launched,
                lost=ended - notice if lost else None,
                spent=spent,
                made=made,
                update=made + draw(st.integers(-1, 9)),
                unfinished=draw(seconds),
            )
        )
        now = ended
    return found, found[-1].ended - found[0].started, between


@given(timelines())
def test_parts_add_up_to_the_whole(timeline):
    attempts, whole, between = timeline
    goodput = Goodput.of(attempts)
    assert list(goodput.parts) == list(PARTS)
    assert min(goodput.parts.values()) >= 0
    close = {"rel_tol": 1e-9, "abs_tol": 1e-6}
    assert math.isclose(goodput.seconds + goodput.stopped, whole, **close)
    assert math.isclose(goodput.stopped, between, **close)
    assert 0 <= goodput.repeated <= goodput.made


@given(
    st.lists(
        st.builds(
            Attempt,
            *(seconds, seconds),
            launched=st.none() | seconds,
            lost=st.none() | seconds,
            spent=st.dictionaries(st.sampled_from(STATES), seconds),
            made=st.integers(0, 9),
            update=st.integers(-1, 9),
            unfinished=seconds,
        )
    )
)
def test_whatever_a_log_says_no_part_is_negative(attempts):
    goodput = Goodput.of(attempts)
    assert all(seconds >= -1e-6 for seconds in goodput.parts.values())
    assert goodput.stopped >= 0
    least = sum(each.seconds for each in attempts)
    assert goodput.seconds >= least * (1 - 1e-9)


def logged(tmp_path, *lines, tail=""):
    return LoggedAttempts(run_logs.write(tmp_path / "run", lines, tail))


def test_a_log_tells_of_starts_and_ends(tmp_path):
    loss = {"kind": "loss", "time": 19.0, "attempt": "a", "worker": 1}
    found = logged(tmp_path, run_logs.begin(), START, loss, EXIT)
    assert found.complaints == []
    assert found.attempts == [
        Attempt(
            *(10.0, 20.0),
            launched=9.0,
            lost=19.0,
            spent=EXIT["spent"],
            update=4,
            made=4,
        )
    ]


def test_what_was_known_last_holds_where_all_were_killed(tmp_path):
    early = {**EXIT, "kind": "spent", "time": 15.0, "made": 2, "update": 2}
    late = {**early, "time": 18.0, "made": 3, "update": 3}
    own = {"kind": "start", "time": 10.5, "attempt": "a", "workers": 2}
    (killed,) = logged(tmp_path, START, own, early, late).attempts
    assert (killed.started, killed.ended, killed.made) == (10.0, 18.0, 3)
    assert (killed.launched, killed.workers) == (9.0, 2)
    (ended,) = logged(tmp_path, START, own, EXIT, late).attempts
    assert (ended.ended, ended.made) == (20.0, 4)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ({**EXIT, "spent": [1.0]}, '"spent" is [1.0]'),
        ({**EXIT, "spent": {"training": -1.0}}, '"training" is -1.0'),
        ({**EXIT, "spent": {"training": "long"}}, "\"training\" is 'long'"),
        ({**EXIT, "made": None}, '"made" is None'),
        ({**EXIT, "update": -2}, '"update" is -2'),
        ({**EXIT, "time": 1e300}, '"time" is 1e+300'),
        ({**EXIT, "attempt": 7}, '"attempt" is 7'),
        ({**EXIT, "attempt": "b"}, "nothing before it says when 'b' started"),
        ({**START, "time": None}, '"time" is None'),
    ],
    ids=range(9),
)
def test_a_damaged_line_is_told_and_passed_over(tmp_path, line, problem):
    found = logged(tmp_path, run_logs.begin(), START, line, EXIT)
    (complaint,) = found.complaints
    assert "run.jsonl, line 3" in complaint
    assert problem in complaint
    assert [each.seconds for each in found.attempts] == [10.0]
    of_run = Run.read(tmp_path / "run")
    assert of_run.goodput.made == 4
    assert list(of_run.complaints) == [complaint]


@pytest.mark.parametrize(
    "text", ['{"kind": "exit", "ti', "\x00\x00", "[" * 10**5]
)
def test_a_line_that_is_no_json_is_told_unless_it_is_the_last(tmp_path, text):
    lines = [run_logs.begin(), START]
    rest = json.dumps(EXIT)
    found = logged(tmp_path, *lines, tail=f"{text}\n{rest}\n")
    assert len(found.complaints) == 1
    assert "line 3" in found.complaints[0]
    assert found.attempts[0].seconds == 10.0
    found = logged(tmp_path, *lines, tail=f"{rest}\n{text}")
    assert found.complaints == []
    assert found.attempts[0].seconds == 10.0


def test_an_older_log_has_no_goodput(tmp_path):
    folder = run_logs.write(tmp_path / "run", [run_logs.begin()])
    assert logged_goodput(folder) == (None, [])
    of_run = Run.read(folder)
    assert of_run.goodput is None
    assert goodput_chart([of_run]) is None


def test_a_folder_without_a_log_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no run\.jsonl in it"):
        LoggedAttempts(tmp_path)


def test_the_chart_has_a_bar_for_each_run_that_tells(tmp_path):
    folders = [
        run_logs.write(tmp_path / name, lines)
        for name, lines in [
            ("one", [run_logs.begin(), START, EXIT]),
            ("old", [run_logs.begin()]),
        ]
    ]
    chart = goodput_chart([Run.read(folder) for folder in folders])
    assert chart.head == ["Run", "Updates", "Starting", "Sum", "Goodput"]
    assert chart.rows == [["one", "8.0 s", "3.0 s", "11.0 s", "73 %"]]
    assert chart.caption.startswith("73\N{NO-BREAK SPACE}% of 11.0 s; ")
    shares = [row["share"] for row in chart.spec["data"]["values"]]
    assert sum(shares) == pytest.approx(1)
