"""The largest batch that fits, on the worker that has least memory."""

import json
import subprocess
import sys

import keras
import psutil
import pytest
import tensorflow as tf
from places import SHARED

import tfdp
from tfdp.memory.find_batch import usual_limit


def made(strategy):
    with strategy.scope():
        model = keras.Sequential(
            [
                keras.Input((32,)),
                keras.layers.Dense(64, "tanh"),
                keras.layers.Dense(1),
            ]
        )
        model.compile(
            tfdp.DistributedOptimizer(keras.optimizers.SGD(0.1)), "mse"
        )
    return model, (tf.zeros((8, 32)), tf.zeros((8, 1)))


@pytest.mark.parametrize("limit", [200_000, 3_000_000])
def test_one_sample_more_does_not_fit(strategy, limit):
    model, batch = made(strategy)
    size = tfdp.find_batch(model, batch, memory_limit=limit)
    fits, does_not = (
        tfdp.estimate(model, batch, per_replica_batch=each).total
        for each in (size, size + 1)
    )
    assert fits <= limit < does_not


def test_there_is_a_largest_batch_to_try(strategy):
    model, batch = made(strategy)
    assert tfdp.find_batch(model, batch, most=100) == 100
    assert tfdp.find_batch(model, batch, most=1) == 1


def test_a_limit_below_one_sample_is_refused(strategy):
    model, batch = made(strategy)
    with pytest.raises(RuntimeError, match="memory_limit=1,000 bytes"):
        tfdp.find_batch(model, batch, memory_limit=1000)


@pytest.mark.parametrize("name", ["memory_limit", "most"])
def test_a_limit_that_is_no_count_is_refused(strategy, name):
    model, batch = made(strategy)
    with pytest.raises(ValueError, match=name):
        tfdp.find_batch(model, batch, **{name: 0})
    with pytest.raises(TypeError, match=name):
        tfdp.find_batch(model, batch, **{name: 1.5})


def of_worker(limits):
    strategy = tfdp.MultiWorkerMirroredStrategy()
    model, batch = made(strategy)
    limit = limits[strategy.worker_index]
    size = tfdp.find_batch(model, batch, memory_limit=limit)
    own = tfdp.estimate(model, batch, per_replica_batch=size).total
    more = tfdp.estimate(model, batch, per_replica_batch=size + 1).total
    try:
        too_little = 1000 if strategy.is_chief else 3_000_000
        tfdp.find_batch(model, batch, memory_limit=too_little)
    except RuntimeError as error:
        return size, own, more, str(error)


def usual(_):
    strategy = tfdp.MultiWorkerMirroredStrategy()
    return usual_limit(strategy), psutil.virtual_memory().available


@pytest.mark.multi_worker
def test_workers_of_one_machine_share_its_memory():
    for limit, free in tfdp.testing.run_workers(usual, 2, [0], timeout=120):
        assert limit == pytest.approx(0.45 * free, rel=0.2)


@pytest.mark.multi_worker
def test_the_worker_with_least_memory_decides():
    limits = [3_000_000, 400_000]
    found = tfdp.testing.run_workers(of_worker, 2, [limits], timeout=300)
    sizes, owns, more, errors = zip(*found, strict=True)
    assert sizes[0] == sizes[1]
    assert max(owns) <= min(limits) < max(more)
    for error in errors:
        assert "At least one sample per replica must fit" in error


def out_of_memory(*args):
    script = SHARED / "out_of_memory.py"
    command = [sys.executable, str(script), *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.long
@pytest.mark.parametrize("mebibytes", [700, 1200])
def test_what_is_found_trains_where_half_as_much_again_does_not(mebibytes):
    size = out_of_memory(mebibytes)
    assert out_of_memory(mebibytes, size)
    assert not out_of_memory(mebibytes, size + size // 2)
