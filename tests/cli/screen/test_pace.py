"""Rates and times from standings, beside what was trained."""

import pytest

from tfdp.board import Standing, State
from tfdp.cli.screen.pace import Pace


def at(time, update, samples=None, *, made=None, goal=-1):
    samples = 8 * update if samples is None else samples
    made = update if made is None else made
    return Standing(
        state=State.TRAINING,
        since=-1.0,
        changed=time,
        update=update,
        samples=samples,
        made=made,
        goal=goal,
    )


def seen(*standings):
    pace = Pace()
    for standing in standings:
        pace.see(standing)
    return pace


def test_nothing_is_known_of_one_standing():
    for standings in ([], [at(1.0, 5, goal=9)]):
        pace = seen(*standings)
        assert (pace.samples_per_second, pace.seconds_left) == (None, None)


def test_what_comes_before_the_first_update_does_not_count():
    pace = seen(at(0.0, 0), at(9.0, 1), at(11.0, 5, goal=15))
    assert pace.samples_per_second == 16.0
    assert pace.seconds_left == 5.0


def test_a_run_that_resumes_counts_from_where_it_is():
    first, last = at(1.0, 91, 8, made=1), at(2.0, 101, 88, made=11, goal=111)
    pace = seen(first, last)
    assert (pace.samples_per_second, pace.seconds_left) == (80.0, 1.0)


def test_the_last_half_minute_counts():
    slow = [at(float(second), second) for second in range(1, 41)]
    fast = [at(40.0 + second, 40 + 3 * second) for second in range(1, 31)]
    assert seen(*slow).samples_per_second == 8.0
    assert seen(*slow, *fast).samples_per_second == 24.0


def test_who_counts_from_zero_again_begins_anew():
    before = [at(float(second), 50 + second) for second in range(1, 9)]
    after = [at(20.0 + second, 2 * second) for second in range(1, 9)]
    assert seen(*before, after[0]).samples_per_second is None
    assert seen(*before, *after).samples_per_second == 16.0


def test_who_is_started_again_has_no_rate_at_first():
    before = [at(float(second), second) for second in range(1, 9)]
    assert seen(*before, at(9.0, 8, 0, made=0)).samples_per_second is None


def test_where_nobody_counts_samples_the_time_is_known():
    pace = seen(at(1.0, 1, -1), at(3.0, 5, -1, goal=7))
    assert (pace.samples_per_second, pace.seconds_left) == (None, 1.0)


def test_a_training_that_goes_beyond_its_goal_has_no_time_left():
    assert seen(at(1.0, 1), at(2.0, 9, goal=7)).seconds_left == 0.0


@pytest.mark.parametrize("made", [0, 5])
def test_who_stands_still_has_no_rate(made):
    same = at(2.0, 5, made=made)
    assert seen(same, same, at(9.0, 5, made=made)).samples_per_second is None


def test_validation_is_in_the_time_left_and_in_no_rate():
    spent = [0.0] * 16
    pace = seen(at(2.0, 2, goal=100))
    spent[State.TRAINING], spent[State.VALIDATING] = 6.0, 5.0
    pace.see(
        Standing(
            state=State.CALLBACKS,
            since=10.0,
            changed=12.0,
            spent=tuple(spent),
            update=7,
            made=7,
            samples=66,
            goal=12,
        )
    )
    # Eight seconds in steps, of which three had passed before.
    assert pace.samples_per_second == (66 - 16) / 5
    assert pace.seconds_left == 10.0
