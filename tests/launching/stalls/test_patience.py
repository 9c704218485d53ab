import math

import pytest

from tfdp.board import Standing, State
from tfdp.launching.stalls.patience import Patience

PAUSED = [
    State.STARTING,
    State.MEETING,
    State.PAUSE,
    State.FIRST_STEP,
    State.TRACING,
    State.VALIDATING,
    State.SAVING,
    State.ENDED,
]


def standing(state=State.TRAINING, **others):
    return Standing(state=state, **{"pid": 1, "epoch": 0, "made": 5, **others})


def learned(patience, *updates):
    """Shows updates that ended at these times."""
    for number, end in enumerate(updates, start=1):
        patience.learn(standing(update=number, made=number, updated=end))
    return patience


@pytest.mark.parametrize("state", State)
def test_what_takes_long_may(state):
    others = [standing(State.WAITING), standing(state)]
    limit = Patience(5.0, start_seconds=90.0).limit(others)
    assert limit == (90.0 if state in PAUSED else 5.0)
    limit = Patience(None, start_seconds=90.0).limit(others)
    may_be_long = state in [*PAUSED, State.CALLBACKS]
    assert limit == (90.0 if may_be_long else 60.0)


def test_a_long_wait_is_allowed_where_workers_meet_soon():
    patience = Patience(120.0, start_seconds=6.0)
    assert patience.limit([standing(State.TRACING)]) == 120.0


@pytest.mark.parametrize(("made", "limit"), [(0, 90.0), (1, 90.0), (2, 5.0)])
def test_the_first_updates_may_take_long(made, limit):
    patience = Patience(5.0, start_seconds=90.0)
    assert patience.limit([standing(made=0), standing(made=made)]) == limit


def test_a_worker_without_a_board_may_be_starting():
    patience = Patience(5.0, start_seconds=90.0)
    assert patience.limit([standing(), None]) == 90.0


def test_programs_outside_of_a_fit_are_let_alone():
    patience = Patience(5.0, start_seconds=90.0)
    outside = [standing(state, epoch=-1) for state in State]
    assert patience.limit([*outside, None]) == math.inf
    assert patience.limit([]) == math.inf


def test_the_limit_follows_the_median_update():
    patience = Patience(None, start_seconds=1.0)
    # Of 4, 4, 4, 40 and 4 seconds.
    learned(patience, 10.0, 14.0, 18.0, 22.0, 62.0, 66.0)
    assert patience.median == 4.0
    assert patience.limit([standing()]) == 80.0
    told = "more than 80 s, where an update takes 4 s"
    assert patience.reason([standing()]) == told


def test_the_limit_is_at_least_a_minute():
    patience = learned(Patience(None, start_seconds=1.0), 1.0, 1.1, 1.2)
    assert patience.limit([standing()]) == 60.0
    told = "more than 60 s, where an update takes 0.1 s"
    assert patience.reason([standing()]) == told


def test_updates_between_two_looks_share_the_time():
    patience = Patience(None, start_seconds=1.0)
    patience.learn(standing(update=10, updated=10.0))
    patience.learn(standing(update=14, updated=12.0))
    assert patience.median == 0.5


def test_the_first_update_and_another_process_say_nothing_of_time():
    patience = Patience(None, start_seconds=1.0)
    patience.learn(standing(update=0, made=0))
    patience.learn(standing(update=1, made=1, updated=100.0))
    patience.learn(standing(update=2, made=1, updated=900.0, pid=2))
    assert math.isnan(patience.median)
    assert patience.seconds == 60.0
    assert patience.reason([standing()]) == "more than 60 s"


def test_what_was_asked_for_is_the_limit_whatever_the_median():
    patience = learned(Patience(5.0, start_seconds=600.0), 10.0, 90.0, 170.0)
    assert patience.limit([standing()]) == 5.0
    told = "more than the 5 s of --stall-seconds"
    assert patience.reason([standing()]) == told
    assert patience.reason([standing(State.SAVING)]) == (
        "more than the 600 s that may pass outside of the steps of an epoch"
    )
