import dataclasses
import math

import numpy as np
import pytest

from tfdp.throughput.asynchrony import Asynchrony, Share
from tfdp.throughput.breakdown import PARTS, Breakdown
from tfdp.throughput.feed import Feed
from tfdp.throughput.limits import limit
from tfdp.throughput.rates import Rates
from tfdp.throughput.window import Memory, Window

PREFETCH = "`dataset.prefetch(tf.data.AUTOTUNE)`"
IN_PARALLEL = "`num_parallel_calls=` where samples are read and mapped"
CACHE = "`cache()`"


def of(steps):
    return Feed("dataset", steps.split())


def window(
    *,
    between=(0,),
    voting=None,
    held=None,
    replicas=(1,),
    samples=25_600,
    **parts,
):
    """100 updates whose parts are seconds of each replica."""
    count, workers = sum(replicas), len(replicas)
    given = {
        name: tuple(np.broadcast_to(parts.get(name, 0), count).tolist())
        for name in PARTS
    }
    seconds = np.sum(list(given.values()), axis=0)
    return Window(
        epoch=0,
        update=100,
        rates=Rates(
            seconds=tuple(seconds[np.cumsum((0, *replicas[:-1]))].tolist()),
            samples=tuple((samples // count,) * n for n in replicas),
            updates=100,
        ),
        breakdown=Breakdown(
            **given,
            between=tuple(between),
            voting=voting or (0,) * workers,
            held=held or (0,) * workers,
            replicas_by_worker=replicas,
        ),
        steps=np.ones((workers, 100)),
        memory=Memory((0.0,) * workers, (0.0,) * count),
    )


def test_communication_says_how_far_to_accumulate():
    found = limit(window(communication=61, compute=39), 1)
    assert found.kind == "communication"
    assert found.share == pytest.approx(0.61)
    assert str(found) == (
        "communication is 61 % of the time; accumulation_steps=4 would bring "
        "it to 28 %, at a global batch of about 1,024 samples; so would "
        "`synchronization=tfdp.LocalSGD(sync_every=4)` at the batch of now, "
        "at the price in docs/ideas/synchronization.md."
    )


def test_accumulation_grows_from_where_it_is():
    words = str(limit(window(communication=40, compute=60), 8))
    assert "accumulation_steps=16 would bring it to 25 %" in words


def test_hopeless_communication_is_not_promised_away():
    words = str(limit(window(communication=99, compute=1), 1))
    assert "accumulation_steps=64 would bring it to 61 %" in words


def test_input_says_what_it_costs():
    found = limit(window(input=50, compute=50), 1)
    assert found.kind == "input"
    assert "waiting for data is 50 % of the time" in str(found)
    assert "2 times the samples/s. Try `dataset.prefetch" in str(found)


@pytest.mark.parametrize(
    ("feed", "cure"),
    [
        (Feed(), f"Try {PREFETCH}, {IN_PARALLEL}, or {CACHE}."),
        (of("Batch Shuffle TensorSlice"), f"Try {PREFETCH}."),
        (of("Options Repeat Prefetch Batch Range"), "works ahead already;"),
        (of("Prefetch Batch Map TFRecord"), f"Try {IN_PARALLEL}, or {CACHE}."),
        (of("Prefetch ParallelMap Cache Map Range"), f"Try {IN_PARALLEL}."),
        (
            of("Batch Prefetch ParallelMap Range"),
            f"Try {PREFETCH}, or {CACHE}.",
        ),
        (Feed("arrays"), "larger batches are taken less often."),
        (Feed("generator"), "Try a `tf.data.Dataset`, or a"),
        (Feed("PyDataset"), "Try more `workers=`"),
    ],
)
def test_only_what_the_input_lacks_is_advised(feed, cure):
    words = str(limit(window(input=50, compute=50), 1, feed))
    assert cure in words
    for each in (PREFETCH, IN_PARALLEL, CACHE):
        assert (each in words) == (each in cure)


def test_input_says_where_every_worker_reads_all():
    advice = "`dataset.apply(tfdp.shard)`, before what takes long, has each"
    slow = window(input=50, compute=50, replicas=(1, 1), between=(0, 0))
    assert advice in str(limit(slow, 1, all_read_all=True))
    assert "tfdp.shard" not in str(limit(slow, 1))
    fast = window(compute=100, replicas=(1, 1), between=(0, 0))
    assert "tfdp.shard" not in str(limit(fast, 1, all_read_all=True))


def test_what_fetching_takes_at_any_speed_is_no_slow_input():
    # A millisecond of each of 512 micro-batches.
    found = limit(window(input=50, compute=50), 512)
    assert found.kind == "small batch"
    assert found.share == pytest.approx(0.5)


def test_a_straggler_is_named_with_its_factor():
    found = limit(
        window(
            replicas=(2, 2),
            between=(0, 0),
            compute=(30, 30, 30, 90),
            waiting=(60, 60, 60, 0),
            communication=10,
        ),
        1,
    )
    assert found.kind == "straggler"
    assert found.share == pytest.approx(0.45)
    assert str(found) == (
        "replica 3 (worker 1) takes 3 times as long as the median, 900 ms an "
        "update in computation; replicas wait for the slowest 45 % of the "
        "time. Look at what else runs there, or leave it out."
    )


def test_a_worker_that_callbacks_keep_is_a_straggler():
    found = limit(
        window(
            replicas=(1, 1),
            between=(100, 0),
            held=(0, 100),
            compute=50,
            other=20,
        ),
        1,
    )
    assert found.kind == "straggler"
    assert "replica 0 (worker 0) takes 3 times" in str(found)
    assert "an update between its steps" in str(found)


def test_replicas_that_take_turns_are_no_straggler():
    found = limit(window(replicas=(2,), compute=60, waiting=40), 1)
    assert found.kind == "straggler"
    assert "take turns at it (skew 1.00)" in str(found)


def test_votes_between_workers_are_communication():
    found = limit(
        window(replicas=(1, 1), between=(0, 0), voting=(100, 100), compute=100),
        1,
    )
    assert (found.kind, found.share) == ("communication", 0.5)


def test_callbacks_of_all_are_a_limit():
    found = limit(window(compute=100, between=(100,)), 1)
    assert (found.kind, found.share) == ("callbacks", 0.5)
    assert "between steps take 50 % of the time" in str(found)


def test_starting_steps_is_a_cost_of_small_batches_and_no_input():
    found = limit(window(start=30, other=10, compute=60), 1)
    assert found.kind == "small batch"
    assert found.share == pytest.approx(0.4)


def test_a_worker_slow_to_start_is_a_straggler():
    found = limit(
        window(
            replicas=(1, 1),
            between=(0, 0),
            start=(5, 80),
            waiting=(75, 0),
            compute=20,
        ),
        1,
    )
    assert found.kind == "straggler"
    assert "replica 1 (worker 1) takes 4 times" in str(found)
    assert "800 ms an update starting its steps" in str(found)


@pytest.mark.parametrize(
    ("steps", "at"),
    [
        (1, "at a global batch of about 512."),
        (4, "with accumulation_steps=2 at the same global batch."),
    ],
)
def test_small_batches_should_grow(steps, at):
    found = limit(window(other=40, compute=60, replicas=(2,)), steps)
    assert found.kind == "small batch"
    now = 128 // steps
    assert f"2 times the per-replica batch (now {now} samples)" in str(found)
    assert str(found).endswith(f"would bring it to 25 %, {at}")


def asynchrony(*workers, bound=1):
    """Seconds for 100 updates, and waiting for room, of each worker."""
    return Asynchrony(
        bound,
        {
            worker: Share({1: 100}, computing, waiting)
            for worker, (computing, waiting) in enumerate(workers)
        },
    )


def test_waiting_for_room_names_the_bound_and_the_slow_worker():
    found = limit(
        window(compute=90, other=10),
        1,
        asynchrony=asynchrony((3, 0), (1, 2), (1, 2)),
    )
    assert found.kind == "room"
    assert found.share == pytest.approx(4 / 9)
    assert str(found).startswith(
        "workers wait for room 44 % of the time, at max_staleness=1; "
        "max_staleness=6 would leave hardly any"
    )
    assert "Worker 0 takes 3 times as long" in str(found)


def test_workers_that_wait_for_nobody_are_limited_by_something_else():
    shared = asynchrony((1, 0.1), (1, 0.1))
    found = limit(window(compute=90, other=10), 1, asynchrony=shared)
    assert found.kind == "none"
    nothing = Asynchrony(1, {})
    found = limit(window(compute=90, other=10), 1, asynchrony=nothing)
    assert found.kind == "none"


def test_asynchronous_communication_is_not_cured_by_another_way():
    found = window(compute=39, communication=61)
    exchanged = dataclasses.replace(
        found, breakdown=dataclasses.replace(found.breakdown, room=(0,))
    )
    words = str(limit(exchanged, 1, asynchrony=asynchrony((1, 0), (1, 0))))
    assert words == (
        "communication is 61 % of the time; accumulation_steps=4 would bring "
        "it to 28 %, at a global batch of about 1,024 samples."
    )


def test_computation_is_no_limit_to_cure():
    found = limit(window(compute=90, communication=10), 1)
    assert (found.kind, found.share) == ("none", 0.9)
    assert str(found).startswith("computation is 90 % of the time")


def test_bounds_are_said_to_be_bounds():
    found = window(compute=100)
    words = str(limit(dataclasses.replace(found, is_bound=True), 1))
    assert "parts of a step are bounds" in words


def test_nothing_measured_is_no_limit():
    empty = window(compute=100)
    nothing = Breakdown(*((0.0,),) * 9, replicas_by_worker=(1,))
    assert limit(dataclasses.replace(empty, breakdown=nothing), 1) is None
    assert math.isnan(nothing.share("compute"))
