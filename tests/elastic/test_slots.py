"""Which slots have a worker, and from when on."""

import math

import pytest

from tfdp.elastic import Slots


def test_all_wait_for_one_that_may_come_back_soon():
    slots = Slots(1, 3, rejoin_seconds=1.0, forgiven=0)
    slots.fall([1], now=10.0)
    assert slots.begin_at(10.0) == 11.0
    assert slots.ready(10.9) == [0, 2]
    assert slots.ready(11.0) == [0, 1, 2]


def test_nobody_waits_for_one_that_stays_away():
    slots = Slots(1, 3, rejoin_seconds=0.9, forgiven=0)
    slots.fall([1], now=10.0)
    assert slots.begin_at(10.0) == 10.0
    assert slots.begin_at(10.2) == 11.0


def test_with_too_few_all_wait_for_the_next():
    slots = Slots(2, 3, rejoin_seconds=0, first_pause=4.0, forgiven=0)
    slots.fall([0], now=10.0)
    slots.fall([2], now=12.0)
    assert slots.begin_at(12.0) == 14.0
    assert slots.ready(14.0) == [0, 1]


def test_who_falls_again_and_again_stays_away_for_longer():
    slots = Slots(1, 2, longest_pause=20.0, forgiven=0)
    now, pauses = 0, []
    for _ in range(6):
        slots.fall([1], now=now)
        pauses.append(
            next(s for s in range(100) if slots.ready(now + s) == [0, 1])
        )
        now += pauses[-1] + 1
    assert pauses == [1, 2, 4, 8, 16, 20]


def test_who_has_lasted_is_well_again():
    slots = Slots(1, 2, forgiven=0)
    for now in (0.0, 2.0, 5.0):
        slots.fall([1], now=now)
    # Ten times its last pause, and no longer.
    slots.fall([1], now=45.0)
    assert slots.ready(52.9) == [0]
    slots.fall([1], now=125.1)
    assert slots.ready(126.1) == [0, 1]


def test_the_falls_of_others_do_not_make_a_slot_worse():
    """However soon after each other they come, all of an attempt end."""
    slots = Slots(1, 4)
    for round_ in range(20):
        for slot in range(4):
            now = 40.0 * round_ + 10.0 * slot
            slots.fall([slot], now=now)
            assert slots.ready(now) == [0, 1, 2, 3]


def test_the_first_fall_is_forgiven():
    slots = Slots(1, 2)
    slots.fall([1], now=10.0)
    assert slots.ready(10.0) == [0, 1]
    slots.fall([1], now=20.0)
    assert (slots.ready(20.9), slots.ready(21.0)) == ([0], [0, 1])
    # It has lasted: its next one is a first one again.
    slots.fall([1], now=50.0)
    assert slots.ready(50.0) == [0, 1]


def test_who_is_welcome_is_ready():
    slots = Slots(1, 3, first_pause=300.0, forgiven=0)
    slots.fall([0, 2], now=10.0)
    slots.welcome([2])
    assert slots.ready(10.0) == [1, 2]


def test_the_least_must_not_be_above_the_most():
    with pytest.raises(ValueError, match=r"Received: 3:2. Use 2:3\."):
        Slots(3, 2)


@pytest.mark.parametrize("count", [-1, 1.5, True, "2", None])
@pytest.mark.parametrize("name", ["least", "most", "forgiven"])
def test_slots_are_counted(name, count):
    counts = {"least": 1, "most": 1, name: count}
    with pytest.raises((TypeError, ValueError), match=f"Received: {name}="):
        Slots(**counts)


@pytest.mark.parametrize("seconds", [-1.0, math.inf, math.nan, "1"])
@pytest.mark.parametrize(
    "name", ["rejoin_seconds", "first_pause", "longest_pause"]
)
def test_seconds_are_seconds(name, seconds):
    with pytest.raises((TypeError, ValueError), match=f"Received: {name}="):
        Slots(1, 2, **{name: seconds})


@pytest.mark.parametrize("name", ["first_pause", "longest_pause"])
def test_a_pause_takes_time(name):
    with pytest.raises(ValueError, match=f"Received: {name}=0"):
        Slots(1, 2, **{name: 0})
