"""The bound that is advised, beside what the engine's rule does at it."""

import random

import pytest
from staleness_in_virtual_time import trained

from tfdp.throughput.asynchrony import Asynchrony, Share
from tfdp.throughput.room import free_bound, room_words

SPEEDS = [
    (1, 1),
    (1, 3),
    (0.3, 1.7),
    (1, 1, 3),
    (1, 1, 1, 3.4),
    (1, 3, 3),
    (1, 1.01, 2.9, 3.05),
    (1, 2, 4, 8),
    (1, 1, 1, 1, 10),
    (1,) * 8,
]


def constant(*seconds):
    # Nobody is as fast as another to the last digit.
    return [lambda t=t, w=w: t * 1.003**w for w, t in enumerate(seconds)]


def varying(*seconds, by):
    rngs = [random.Random(worker) for worker in range(len(seconds))]
    return [
        lambda t=t, rng=rng: t * rng.uniform(1 - by, 1 + by)
        for t, rng in zip(seconds, rngs, strict=True)
    ]


@pytest.mark.parametrize(
    ("seconds", "bound"),
    [
        ((1,), 0),
        ((1, 1), 1),
        ((1, 3), 3),
        ((1, 1, 1, 3), 9),
        ((1, 1, 3, 3), 7),
        ((1,) * 40, 39),
        ((), 0),
    ],
)
def test_it_is_what_others_do_during_the_slowest_gradient(seconds, bound):
    assert free_bound(seconds) == bound


@pytest.mark.parametrize("seconds", SPEEDS)
def test_at_it_hardly_anybody_waits(seconds):
    bound = free_bound(seconds)
    assert trained(bound, *constant(*seconds)).waiting_share < 0.07
    assert trained(bound, *varying(*seconds, by=0.2)).waiting_share < 0.1


@pytest.mark.parametrize("seconds", SPEEDS)
def test_well_below_it_workers_wait(seconds):
    below = trained(free_bound(seconds) * 2 // 3, *constant(*seconds))
    assert below.waiting_share > 0.08


@pytest.mark.parametrize("seconds", SPEEDS)
def test_it_is_known_from_a_run_at_any_bound(seconds):
    for bound in (0, 1, 2, 100):
        found = trained(bound, *constant(*seconds)).gradient_seconds
        # A gradient that is under way at the end counts in part.
        assert free_bound(list(found.values())) == pytest.approx(
            free_bound(seconds), rel=0.1, abs=1
        )


@pytest.mark.parametrize("bound", [2, 3, 4, 5])
def test_faster_workers_wait_for_what_is_missing(bound):
    found = trained(bound, *constant(1, 1, 3), until=3000)
    shares = [found.workers[worker].waiting_share for worker in (0, 1)]
    assert sum(shares) / 2 == pytest.approx(1 - bound / 6, abs=0.01)
    assert found.workers[2].waiting_share < 0.01


def test_words_name_the_bound_and_the_slow_worker():
    found = trained(1, *(lambda t=t: t for t in (1, 1, 3)), until=3000)
    assert room_words(found) == (
        "workers wait for room 44 % of the time, at max_staleness=1; "
        "max_staleness=6 would leave hardly any of that, with gradients that "
        "miss more updates. Worker 2 takes 3 times as long as the median for a "
        "gradient, 3 s; look at what else runs there, or leave it out: "
        "max_staleness=1 does without it."
    )


def test_who_takes_turns_is_told_the_bound_without():
    words = room_words(trained(0, *(lambda: 1,) * 3))
    assert words == (
        "workers wait for room 67 % of the time, at max_staleness=0; "
        "max_staleness=2 would leave hardly any of that, with gradients that "
        "miss more updates."
    )


def test_no_bound_is_raised_where_hardly_anybody_waits():
    found = Asynchrony(
        2, {0: Share({0: 90}, 9.0, 1.0), 1: Share({0: 10}, 2.0, 0.0)}
    )
    assert room_words(found) == (
        "workers wait for room 8 % of the time, at max_staleness=2. Worker 1 "
        "takes 2 times as long as the median for a gradient, 200 ms; look at "
        "what else runs there."
    )


def test_gradients_that_vary_much_are_told_from_a_low_bound():
    found = Asynchrony(1, {w: Share({0: 50}, 5.0, 5.0) for w in range(2)})
    assert room_words(found) == (
        "workers wait for room 50 % of the time, at max_staleness=1, which "
        "would do if each worker always took as long; look at what else runs "
        "on these machines, or raise it, with gradients that miss more updates."
    )


def test_without_updates_there_is_nothing_to_say():
    assert room_words(Asynchrony(1, {})) == "no worker has updated."
