"""Rows of several workers, and of the data that they are given.

Run as a script, this is one of the workers.
"""

import functools
import json
import os
import pathlib
import sys
import tempfile
import time
import traceback

import keras
import measuring
import numpy as np
import tensorflow as tf
from sides import (
    BATCH,
    Side,
    arrays,
    batches,
    deviation,
    network,
    on_one_device,
    sgd,
)

import tfdp
from tfdp.launching.worker_group import WorkerGroup

MARK = "[row] "
SECONDS = 45
SAMPLES = 64


def on_workers(measure):
    """Runs a row as two worker processes.

    What the first of them says counts, the larger number of the two, or, of
    lists of samples, how many are not seen exactly once.
    """

    @functools.wraps(measure)
    def measured(side):
        reports = []

        def collect(worker, line):
            if line.startswith(MARK):
                reports.append(json.loads(line.removeprefix(MARK)))

        command = [sys.executable, __file__, measure.__name__]
        command += ["--tfdp"] if side.is_tfdp else []
        with WorkerGroup(command, 2, on_line=collect) as group:
            try:
                failure = group.wait(SECONDS)
            except TimeoutError:
                return "hang"
        texts = [report for report in reports if isinstance(report, str)]
        if texts:
            return texts[0]
        if len(reports) < 2:
            raise RuntimeError(failure)
        if isinstance(reports[0], list):
            times_seen = np.bincount(sum(reports, []), minlength=SAMPLES)
            return int(np.count_nonzero(times_seen != 1))
        return max(reports)

    return measured


def _strategy(side):
    if side.is_tfdp:
        return tfdp.MultiWorkerMirroredStrategy()
    return tf.distribute.MultiWorkerMirroredStrategy()


def _train(strategy, model, optimizer, data):
    def step(x, y):
        with tf.GradientTape() as tape:
            loss = keras.ops.mean(keras.ops.square(model(x) - y)) / 2
            scaled = optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)

    @tf.function
    def on_all(batch):
        strategy.run(step, args=batch)

    batches = iter(strategy.experimental_distribute_dataset(data))
    for _ in range(len(data)):
        on_all(next(batches))


@on_workers
def a8_workers(side):
    """Dynamic loss scale, an overflow on the second of two workers alone.

    Test: test_edges_workers.py::
        test_an_overflow_on_one_worker_skips_that_update_on_all
    """

    def make():
        if side.is_tfdp:
            return tfdp.DistributedOptimizer(sgd(), loss_scale="dynamic")
        return keras.optimizers.LossScaleOptimizer(sgd())

    strategy = _strategy(side)
    x, y = arrays()
    y[BATCH - 1] = 1e37
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(BATCH)
    with strategy.scope():
        model, optimizer = network(), make()
        optimizer.build(model.trainable_variables)
    _train(strategy, model, optimizer, data)
    oracle = on_one_device(
        lambda: keras.optimizers.LossScaleOptimizer(sgd()), data, epochs=1
    )
    return deviation(model, oracle)


@on_workers
def b1(side):
    """`fit` on two workers.

    Test: test_parity_workers.py::test_two_workers_equal_one_device
    """
    return side.deviation(sgd, strategy=_strategy(side))


@on_workers
def b3_workers(side):
    """`steps_per_execution=2` on two workers.

    Test: test_edges_workers.py::
    test_several_steps_per_execution_equal_one_device
    """
    strategy = _strategy(side)
    return side.deviation(sgd, strategy=strategy, steps_per_execution=2)


@on_workers
def c1(side):
    """A worker with 2 batches and one with 4, in a custom loop.

    Test: test_workers_data.py::
    test_what_would_lose_samples_is_refused_on_every_worker
    """
    strategy = _strategy(side)
    with strategy.scope():
        model, optimizer = network(), side.optimizer(sgd)
        optimizer.build(model.trainable_variables)
    index = strategy.cluster_resolver.task_id
    data = batches(BATCH, (2 + 2 * index) * BATCH)
    _train(strategy, model, optimizer, data)
    return int(optimizer.iterations.numpy())


def _seen(strategy, data, policy="AUTO"):
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = getattr(
        tf.data.experimental.AutoShardPolicy, policy
    )
    data = data.batch(16).with_options(options)
    seen = []
    for batch in strategy.experimental_distribute_dataset(data):
        for part in strategy.experimental_local_results(batch):
            seen += part.numpy().tolist()
    return seen


@on_workers
def c2(side):
    """AutoShardPolicy.OFF: samples of 64 not seen exactly once.

    Test: test_workers_data.py::
    test_what_would_lose_samples_is_refused_on_every_worker
    """
    return _seen(_strategy(side), tf.data.Dataset.range(SAMPLES), "OFF")


@on_workers
def c2_file(side):
    """AutoShardPolicy.FILE, one file: samples of 64 not seen exactly once.

    Test: test_workers_data.py::
    test_every_sample_is_seen_once_per_epoch_in_an_order_of_its_own
    """
    strategy = _strategy(side)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "samples.txt")
        path.write_text("\n".join(map(str, range(SAMPLES))))
        data = tf.data.TextLineDataset([str(path)]).map(
            lambda line: tf.strings.to_number(line, tf.int64)
        )
        return _seen(strategy, data, "FILE")


def c13(side):
    """One core: seconds that `fit` takes to end, the longest of 3.

    Test: test_strategy.py::test_the_autotuner_is_off_on_few_cores_only
    """
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    ends, waits = [], []
    slow = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: time.sleep(0.02),
        on_epoch_end=lambda epoch, logs: ends.append(time.perf_counter()),
    )
    data = batches(8, 64 * 8)
    for _ in range(3):
        side.trained(sgd, data, epochs=1, callbacks=[slow])
        waits.append(time.perf_counter() - ends[-1])
    return max(waits)


@on_workers
def c16(side):
    """Shuffling without a seed: samples of 64 not seen exactly once.

    Test: test_workers_data.py::
    test_every_sample_is_seen_once_per_epoch_in_an_order_of_its_own
    """
    strategy = _strategy(side)
    return _seen(strategy, tf.data.Dataset.range(SAMPLES).shuffle(SAMPLES))


@on_workers
def c20(side):
    """Samples that a worker decodes, of 64 in an epoch.

    Test: test_split_workers.py::
    test_each_worker_computes_its_own_samples_alone
    """
    strategy, decoded = _strategy(side), []

    def decode(sample):
        decoded.append(sample)
        return sample

    data = tf.data.Dataset.range(SAMPLES)
    if side.is_tfdp:
        data = data.apply(tfdp.shard)
    data = data.map(lambda x: tf.numpy_function(decode, [x], x.dtype))
    _seen(strategy, data.map(lambda x: tf.ensure_shape(x, [])))
    return len(decoded)


def _as_worker(name, side):
    measuring.show_all_frames()
    try:
        report, code = globals()[name].__wrapped__(side), 0
    except Exception as error:
        traceback.print_exc()
        report, code = measuring.told(error), 1
    sys.stdout.write(f"{MARK}{json.dumps(report)}\n")
    sys.stdout.flush()
    if code:
        # Not waiting for the others, who may never come.
        os._exit(code)


if __name__ == "__main__":
    _as_worker(sys.argv[1], Side("--tfdp" in sys.argv))
