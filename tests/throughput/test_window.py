import json
import math

import numpy as np
import pytest

from tfdp.throughput.step_times import StepTimes
from tfdp.throughput.window import Memory, Window


def times(
    seconds, samples=8.0, *, replicas=1, left_out=(), compute=0.5, room=0
):
    entries = len(seconds)
    of_replica = np.ones((replicas, entries))
    return StepTimes(
        seconds=np.array(seconds, float),
        between=np.zeros(entries),
        voting=np.zeros(entries),
        exchanging=room * np.ones(entries),
        room=room * np.ones(entries),
        start=np.full(entries, 0.05),
        updates=np.ones(entries),
        is_left_out=np.isin(np.arange(entries), left_out).astype(float),
        samples=samples * of_replica,
        input=0.1 * of_replica,
        compute=compute * of_replica,
        synchronization=0.2 * of_replica,
    )


def window(*workers, update=100, **others):
    replicas = sum(len(each.samples) for each in workers)
    return Window.of(
        workers,
        epoch=0,
        update=update,
        memory=Memory((1e9,) * len(workers), (math.nan,) * replicas),
        **others,
    )


def test_figures_have_the_names_of_the_table():
    logs = window(times([1, 1, 3]), times([1, 2, 2])).as_logs()
    assert logs == {
        "samples_per_second": 48 / 5,
        "worker_0_samples_per_second": 24 / 5,
        "worker_1_samples_per_second": 24 / 5,
        "replica_0_samples_per_second": 24 / 5,
        "replica_1_samples_per_second": 24 / 5,
        "replica_samples_per_second": 24 / 5,
        "step_seconds": 5 / 3,
        "step_seconds_p50": 2,
        "step_seconds_p95": pytest.approx(2.9),
        "start_fraction": pytest.approx(0.15 / 5),
        "input_wait_fraction": pytest.approx(0.3 / 5),
        "compute_fraction": pytest.approx(1.5 / 5),
        "waiting_fraction": 0,
        "communication_fraction": pytest.approx(0.6 / 5),
        "worker_skew": 1,
        "replica_skew": 1,
        "memory_bytes": 1e9,
    }


def test_what_one_worker_leaves_out_all_do():
    found = window(
        times([9, 1, 1], left_out=[0]), times([9, 9, 1], left_out=[1])
    )
    assert found.rates.seconds == (1, 1)
    assert found.rates.samples == ((8,), (8,))
    assert found.rates.updates == 1


def test_workers_that_counted_other_updates_have_totals_still():
    found = window(times([1, 1, 1]), times([1, 1]))
    assert found.rates.samples == ((24,), (16,))
    assert found.rates.seconds == (3, 2)


def test_flops_are_of_samples_and_only_where_known():
    known = window(times([1, 1], replicas=2), flops_per_sample=1e9)
    assert known.as_logs()["flops_per_second"] == 16e9
    assert known.scalars()["throughput/device/flops_per_sec"] == 8e9
    assert "flops_per_second" not in window(times([1])).as_logs()
    assert "throughput/flops_per_sec" not in window(times([1])).scalars()


def test_tags_are_those_of_composer_and_lightning():
    scalars = window(times([0.5], replicas=2), unit="tokens").scalars()
    assert scalars["throughput/tokens_per_sec"] == 32
    assert scalars["throughput/device/tokens_per_sec"] == 16
    assert scalars["throughput/batches_per_sec"] == 2
    assert scalars["throughput/device/batches_per_sec"] == 2
    assert scalars["throughput/worker/0/tokens_per_sec"] == 32
    assert scalars["throughput/replica/1/tokens_per_sec"] == 16
    assert scalars["throughput/worker_skew"] == 1


def test_a_row_per_worker_has_its_replicas():
    found = window(times([1, 1], replicas=2), times([1, 3], 4.0, compute=0.25))
    rows = found.rows()
    assert [row["worker"] for row in rows] == [0, 1]
    assert [[r["replica"] for r in row["replicas"]] for row in rows] == [
        [0, 1],
        [2],
    ]
    first, second = rows
    assert first["samples"] == 32
    assert first["samples_per_second"] == 16
    assert second["step_seconds"] == second["step_seconds_p50"] == 2
    assert second["step_seconds_p95"] == pytest.approx(2.9)
    for row in rows:
        for replica in row["replicas"]:
            parts = [v for k, v in replica.items() if k.endswith("_seconds")]
            assert sum(parts) == pytest.approx(row["seconds"])
        assert row["bounds"] == []
    assert json.loads(json.dumps(first)).keys() == first.keys()


def test_waiting_for_room_is_a_part_where_workers_exchange():
    found = window(times([1, 1], room=0.2))
    assert found.as_logs()["room_wait_fraction"] == pytest.approx(0.2)
    assert found.scalars()["throughput/room_wait_fraction"] == pytest.approx(
        0.2
    )
    (row,) = found.rows()
    (replica,) = row["replicas"]
    assert replica["room_seconds"] == pytest.approx(0.4)
    parts = [v for k, v in replica.items() if k.endswith("_seconds")]
    assert sum(parts) == pytest.approx(row["seconds"])


def test_asynchronous_devices_give_bounds():
    (row,) = window(times([1]), is_bound=True).rows()
    assert row["bounds"] == [
        "start_seconds",
        "input_seconds",
        "compute_seconds",
        "waiting_seconds",
        "communication_seconds",
        "other_seconds",
    ]


def test_windows_add_up_in_their_order():
    first, second = window(times([1, 2])), window(times([3]), update=200)
    both = first + second
    assert both.update == 200
    assert both.rates.seconds == (6,)
    assert both.steps.tolist() == [[1, 2, 3]]
    assert both.as_logs()["step_seconds_p50"] == 2


def test_of_windows_added_up_the_slowest_workers_steps_are_kept():
    first = window(times([1, 2]), times([3, 1]))
    second = window(times([4]), times([5]), update=200)
    both = first + second
    assert both.steps.tolist() == [[3, 2, 5]]
    assert both.as_logs()["step_seconds_p50"] == 3


def test_nothing_is_no_number():
    empty = window(times([1], left_out=[0]))
    logs = empty.as_logs()
    assert all(math.isnan(v) for k, v in logs.items() if k != "memory_bytes")
    assert math.isnan(empty.scalars()["throughput/batches_per_sec"])
    assert str(empty) == "all of it was warm-up"
    later = window(times([2]), update=200)
    assert (empty + later).as_logs() == later.as_logs()


def test_a_line_says_the_rates_and_the_skew():
    assert str(window(times([0.5]))) == "16 samples/s"
    assert str(window(times([0.5], replicas=2), unit="tokens")) == (
        "32 tokens/s | replicas 16 16 | skew 1.00"
    )


def test_fractions_of_samples_are_kept():
    found = window(times([1, 1], samples=0.4))
    assert found.rates.samples_per_second == 0.4
    assert type(window(times([1])).rates.samples[0][0]) is int
