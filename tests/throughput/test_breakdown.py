import dataclasses
import math

import numpy as np
import pytest

from tfdp.throughput.breakdown import PARTS, Breakdown
from tfdp.throughput.step_times import StepTimes


def worker(
    seconds, between, *replicas, voting=0, exchanging=0, room=0, start=0
):
    """Times of one update, of replicas with (input, compute, sync)."""
    data, compute, synchronization = np.array(replicas, float).T[..., None]
    return StepTimes(
        seconds=np.array([seconds], float),
        between=np.array([between], float),
        voting=np.array([voting], float),
        exchanging=np.array([exchanging], float),
        room=np.array([room], float),
        start=np.array([start], float),
        updates=np.ones(1),
        is_left_out=np.zeros(1),
        samples=np.ones((len(replicas), 1)),
        input=data,
        compute=compute,
        synchronization=synchronization,
    )


def test_the_last_to_come_shows_what_communication_takes():
    found = Breakdown.of([worker(10, 0, (1, 2, 5), (1, 5, 2))])
    assert found.compute == (2, 5)
    assert found.communication == (2, 2)
    assert found.waiting == (3, 0)
    assert found.other == (2, 2)


def test_parts_add_up_to_the_seconds_of_the_worker():
    workers = [
        worker(10, 1, (1, 2, 5), (1, 5, 2)),
        worker(9, 2, (0.5, 1, 7), (0, 6, 2)),
    ]
    found = Breakdown.of(workers)
    totals = [sum(getattr(found, part)[i] for part in PARTS) for i in range(4)]
    assert totals == [10, 10, 9, 9]
    assert sum(found.share(part) for part in PARTS) == pytest.approx(1)


def test_starting_a_step_is_a_part_of_its_own():
    found = Breakdown.of([worker(10, 0, (1, 2, 5), (1, 5, 2), start=0.5)])
    assert found.start == (0.5, 0.5)
    assert found.other == (1.5, 1.5)
    assert found.own == (3.5, 6.5)
    assert sum(found.share(part) for part in PARTS) == pytest.approx(1)


def test_data_that_waits_for_a_worker_slow_to_start_is_waiting():
    early = worker(9, 1, (4.5, 2, 1), start=0.5)
    late = worker(9, 0, (0, 2, 1), start=6)
    found = Breakdown.of([early, late])
    assert found.waiting == (4.5, 0)
    assert found.input == (0, 0)
    assert found.start == (0.5, 6)


def test_data_that_waits_for_a_late_worker_is_waiting():
    # Each step begins with a vote on whether all workers have data.
    early, late = worker(9, 0, (5, 2, 1)), worker(4, 5, (0, 2, 1))
    found = Breakdown.of([early, late])
    assert found.input == (0, 0)
    assert found.waiting == (5, 0)
    assert found.own == (2, 7)
    assert (found.slowest, found.worker_skew) == (1, 3.5)


def test_data_that_nobody_is_asked_for_are_input():
    early, late = worker(9, 0, (5, 2, 6)), worker(4, 5, (0, 2, 1))
    found = Breakdown.of([early, late], asks=False)
    assert found.input == (5, 0)
    assert found.waiting == (5, 0)


def test_a_vote_that_waits_for_a_late_worker_is_waiting():
    early = worker(4, 5, (1, 2, 1), voting=4.5)
    late = worker(4, 5, (1, 2, 1), voting=0.5)
    found = Breakdown.of([early, late])
    assert found.between == (0.5, 4.5)
    assert found.voting == (0.5, 0.5)
    assert found.held == (4, 0)
    assert found.waiting == (0, 0)
    assert found.own == (3.5, 7.5)


def test_slow_data_of_all_is_not_waiting():
    found = Breakdown.of([worker(9, 1, (6, 2, 1)), worker(9, 1, (6, 2, 1))])
    assert found.input == (6, 6)
    assert found.waiting == (0, 0)


def test_the_slowest_update_by_update_is_waited_for():
    times = worker(4, 0, (0, 1, 3), (0, 3, 1))
    turned = worker(4, 0, (0, 3, 1), (0, 1, 3))
    both = StepTimes(
        *(
            np.concatenate(pair, axis=-1)
            for pair in zip(
                vars(times).values(), vars(turned).values(), strict=True
            )
        )
    )
    found = Breakdown.of([both])
    assert found.communication == (2, 2)
    assert found.waiting == (2, 2)
    assert found.skew == 1
    assert found == Breakdown.of([times]) + Breakdown.of([turned])


@pytest.mark.parametrize(
    ("own", "skew"),
    [((2,), 1), ((1, 3), 3), ((1, 2, 3), 1.5), ((1, 1, 2, 4), 4)],
)
def test_skew_is_the_slowest_over_the_lower_median(own, skew):
    found = Breakdown.of([worker(4, 0, *((0, each, 0) for each in own))])
    assert found.skew == skew
    assert found.worker_skew == 1


def test_a_worker_is_as_slow_as_its_slowest_replica():
    fast = worker(4, 0, (0, 1, 3), (0, 1, 3))
    slow = worker(4, 0, (0, 1, 3), (0, 3, 1))
    found = Breakdown.of([fast, slow])
    assert found.worker_skew == 3
    assert found.slowest == 3
    assert [found.worker_of(i) for i in range(4)] == [0, 0, 1, 1]


def test_a_step_shorter_than_its_parts_has_no_rest():
    found = Breakdown.of([worker(1, 0, (1, 1, 1))])
    assert found.other == (0,)


def test_an_exchange_is_communication_and_waiting_for_room():
    times = worker(10, 0, (1, 2, 1), (1, 1, 2), exchanging=5, room=4)
    found = Breakdown.of([times])
    assert found.room == (4, 4)
    assert found.communication == (1 + 1, 1 + 1)
    assert found.other == (1, 1)
    totals = [
        sum(getattr(found, part)[i] for part in found.parts) for i in range(2)
    ]
    assert totals == [10, 10]
    assert found.parts == (*PARTS[:-1], "room", "other")
    assert found.share("room") == pytest.approx(0.4)
    assert sum(map(found.share, found.parts)) == pytest.approx(1)


def test_exchanges_of_steps_executed_together_lie_in_computation():
    times = worker(10, 0, (0, 8, 1), exchanging=5, room=3)
    found = Breakdown.of([times])
    assert found.room == (3,)
    assert found.communication == (1 + 2,)
    assert (found.compute, found.other) == ((4,), (0,))


def test_a_stretch_without_exchange_adds_to_one_with():
    without = Breakdown.of([worker(4, 0, (1, 2, 1))])
    found = Breakdown.of([worker(4, 0, (1, 1, 1), exchanging=1, room=1)])
    assert without.room == ()
    assert without.parts == PARTS
    assert (without + found).room == (found + without).room == (1,)
    assert (without + without).room == ()


def test_nothing_has_no_shares():
    empty = worker(1, 0, (0, 1, 0)).keeping(np.array([False]))
    found = Breakdown.of([empty])
    assert math.isnan(found.share("compute"))
    assert math.isnan(found.skew)
    assert math.isnan(found.worker_skew)
    whole = Breakdown.of([worker(1, 0, (0, 1, 0))])
    assert found + whole == whole


def test_stretches_of_different_trainings_do_not_add_up():
    one = Breakdown.of([worker(1, 0, (0, 1, 0))])
    two = Breakdown.of([worker(1, 0, (0, 1, 0), (0, 1, 0))])
    with pytest.raises(ValueError, match="zip"):
        one + two
    assert dataclasses.replace(one) == one
