import math

import pytest

from tfdp.throughput.rates import Rates

TWO_WORKERS = Rates(
    seconds=(2.0, 2.5), samples=((600, 400), (500, 250)), updates=10
)
ONE_REPLICA_EACH = Rates(
    seconds=(2.0, 2.0), samples=((5140,), (5100,)), updates=10
)


def test_all_samples_are_over_the_time_of_the_longest_worker():
    assert TWO_WORKERS.samples_per_second == 1750 / 2.5


def test_workers_and_replicas_are_over_their_own_time():
    assert TWO_WORKERS.by_worker == (500.0, 300.0)
    assert TWO_WORKERS.by_replica == (300.0, 200.0, 200.0, 100.0)


def test_an_update_takes_as_long_as_on_the_longest_worker():
    assert TWO_WORKERS.step_seconds == 0.25


def test_logs_have_a_key_for_each_worker_and_replica():
    assert TWO_WORKERS.as_logs() == {
        "samples_per_second": 700.0,
        "worker_0_samples_per_second": 500.0,
        "worker_1_samples_per_second": 300.0,
        "replica_0_samples_per_second": 300.0,
        "replica_1_samples_per_second": 200.0,
        "replica_2_samples_per_second": 200.0,
        "replica_3_samples_per_second": 100.0,
        "replica_samples_per_second": 200.0,
        "step_seconds": 0.25,
    }


def test_one_replica_has_the_same_keys():
    rates = Rates(seconds=(0.5,), samples=((64,),), updates=2)
    assert rates.as_logs() == {
        "samples_per_second": 128.0,
        "worker_0_samples_per_second": 128.0,
        "replica_0_samples_per_second": 128.0,
        "replica_samples_per_second": 128.0,
        "step_seconds": 0.25,
    }


def test_stretches_add_up_by_time_rather_than_by_rate():
    fast = Rates(seconds=(1.0, 1.0), samples=((300,), (100,)), updates=3)
    slow = Rates(seconds=(3.0, 2.0), samples=((100,), (200,)), updates=4)
    assert fast + slow == Rates(
        seconds=(4.0, 3.0), samples=((400,), (300,)), updates=7
    )
    assert (fast + slow).samples_per_second == 175.0


def test_stretches_of_different_trainings_do_not_add_up():
    with pytest.raises(ValueError, match="zip"):
        TWO_WORKERS + Rates(seconds=(1.0,), samples=((1,),), updates=1)


def test_rates_of_nothing_are_no_numbers():
    nothing = Rates(seconds=(0.0, 0.0), samples=((0,), (0,)), updates=0)
    assert all(math.isnan(rate) for rate in nothing.as_logs().values())
    assert nothing + ONE_REPLICA_EACH == ONE_REPLICA_EACH


def test_replicas_without_samples_have_a_rate_of_zero():
    rates = Rates(seconds=(1.0,), samples=((3, 0),), updates=1)
    assert rates.by_replica == (3.0, 0.0)


@pytest.mark.parametrize(
    ("rates", "line"),
    [
        (Rates((2.0,), ((10240,),), 1), "5,120 samples/s"),
        (
            Rates((2.0,), ((1000, 1),), 1),
            "500 samples/s | replicas 500 0.5",
        ),
        (
            ONE_REPLICA_EACH,
            "5,120 samples/s | workers 2,570 2,550 | replicas 2,570 2,550",
        ),
        (
            Rates((1.0,), (tuple(range(100, 109)),), 1),
            "936 samples/s | replicas 100 / 104 / 108 (min / median / max of "
            "9)",
        ),
    ],
)
def test_line_is_short_and_readable(rates, line):
    assert str(rates) == line


def test_samples_may_be_called_something_else():
    rates = Rates((2.0,), ((10240,),), 1)
    assert rates.in_words("tokens") == "5,120 tokens/s"
