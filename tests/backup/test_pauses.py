"""Backups in memory take no more than their share of the time."""

import pytest

from tfdp.backup.memory import Pauses


class Clock:
    """Time that passes when it is told to."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def trained(pauses, clock, *, update, copy, updates=2000):
    """Makes updates, and copies where they are due; returns their share."""
    for _ in range(updates):
        clock.now += update
        if pauses.is_due():
            with pauses.of("memory"):
                clock.now += copy
    return pauses.seconds["memory"] / clock.now


@pytest.mark.parametrize(
    ("update", "copy", "copies"),
    [(1, 0.05, 2000), (1, 0.06, 1000), (1, 1, 106), (0.01, 5, 1)],
)
def test_every_so_many_updates_are_saved_as_the_share_allows(
    update, copy, copies
):
    clock = Clock()
    pauses = Pauses(0.05, clock)
    share = trained(pauses, clock, update=update, copy=copy)
    assert pauses.counts["memory"] == copies
    if copies > 1:
        # The first one had nothing before it.
        assert share <= 0.0505


def test_it_adapts_when_the_time_of_an_update_changes():
    clock = Clock()
    pauses = Pauses(0.05, clock)
    trained(pauses, clock, update=0.1, copy=0.1, updates=190)
    assert pauses.counts["memory"] == 10
    trained(pauses, clock, update=10, copy=0.1, updates=190)
    assert pauses.counts["memory"] == 10 + 190


def test_those_that_were_asked_for_take_nothing_of_the_share():
    clock = Clock()
    pauses = Pauses(0.05, clock)
    with pauses.of("disk"):
        clock.now += 100
    assert pauses.is_due()
    assert pauses.counts == {"memory": 0, "disk": 1}
    assert pauses.seconds == {"memory": 0.0, "disk": 100.0}


@pytest.mark.parametrize(("most", "copies"), [(0, 0), (1, 50)])
def test_none_and_all_are_shares_too(most, copies):
    clock = Clock()
    pauses = Pauses(most, clock)
    trained(pauses, clock, update=0.1, copy=9, updates=50)
    assert pauses.counts["memory"] == copies
