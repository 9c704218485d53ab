"""Trains a small problem on a cluster, and compares with one device.

`python -m tfdp.selftest` is one worker of such a test; `tfdp selftest` starts
it.
"""

import statistics
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfdp.agreement import all_gather
from tfdp.callbacks.data_parallel import DataParallel
from tfdp.callbacks.throughput_monitor import ThroughputMonitor
from tfdp.cluster import Cluster
from tfdp.optimizer import DistributedOptimizer
from tfdp.selftest_outcome import MEBIBYTE, Outcome, weight_deviation
from tfdp.strategy import auto_strategy

_ALL_REDUCE_SIZES = (4 * MEBIBYTE, 32 * MEBIBYTE)
_PER_REPLICA_BATCH = 16
_ACCUMULATION_STEPS = 2
_EPOCHS = 3
_FEATURES = 8


def median_seconds(
    function: Callable[[], object],
    *,
    repetitions: int = 5,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Returns the median time of a call, after one that is not measured.

    Args:
        function: What to call.
        repetitions: How often to measure. Defaults to 5.
        clock: Returns the time in seconds. Defaults to `time.perf_counter`.

    Example:

    >>> times = iter([0.0, 1.0, 1.0, 4.0, 4.0, 6.0])
    >>> median_seconds(lambda: None, repetitions=3, clock=times.__next__)
    2.0
    """
    function()
    seconds = []
    for _ in range(repetitions):
        begin = clock()
        function()
        seconds.append(clock() - begin)
    return statistics.median(seconds)


def self_test(strategy: Any) -> Outcome:
    """Trains, compares and measures; a collective.

    Args:
        strategy: A tfdp strategy.

    Returns:
        The same on every worker, but for the times, which are its own.
    """
    # TensorFloat-32 rounds to 1e-3, another way for every shape.
    tf.config.experimental.enable_tensor_float_32_execution(False)
    weights, samples_per_second = _trained(strategy)
    expected = _trained_on_one_device(strategy.num_replicas_in_sync)
    own = [weight_deviation(weights, expected)]
    seconds = {}
    if strategy.num_replicas_in_sync > 1:
        for size in _ALL_REDUCE_SIZES:
            seconds[size] = median_seconds(_all_reduce(strategy, size))
    return Outcome(
        tuple(all_gather(strategy, own)[:, 0].tolist()),
        strategy.num_replicas_in_sync,
        samples_per_second,
        seconds,
    )


def _dataset(batch: int, replicas: int) -> tf.data.Dataset:
    """Three updates per epoch, the last of a whole micro-batch and of 5."""
    micro_batch = _PER_REPLICA_BATCH * replicas
    samples = (2 * _ACCUMULATION_STEPS + 1) * micro_batch + 5
    random = np.random.default_rng(0)
    x = random.normal(size=(samples, _FEATURES)).astype("float32")
    y = np.tanh(x @ random.normal(size=(_FEATURES, 1))).astype("float32")
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(batch)


def _network() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((_FEATURES,), dtype="float32"),
            *(
                keras.layers.Dense(
                    units,
                    activation,
                    kernel_initializer=keras.initializers.GlorotUniform(units),
                    dtype="float32",
                )
                for units, activation in [(16, "tanh"), (1, None)]
            ),
        ]
    )


def _inner_optimizer() -> keras.optimizers.Optimizer:
    return keras.optimizers.SGD(0.05, momentum=0.9)


def _trained(strategy: Any) -> tuple[list[np.ndarray], float]:
    with strategy.scope():
        model = _network()
        optimizer = DistributedOptimizer(
            _inner_optimizer(), accumulation_steps=_ACCUMULATION_STEPS
        )
        model.compile(optimizer, "mse")
    replicas = strategy.num_replicas_in_sync
    throughput = ThroughputMonitor(verbose=0)
    model.fit(
        _dataset(_PER_REPLICA_BATCH * replicas, replicas),
        epochs=_EPOCHS,
        shuffle=False,
        verbose=0,
        callbacks=[DataParallel(), throughput],
    )
    return model.get_weights(), throughput.rates.samples_per_second


def _trained_on_one_device(replicas: int) -> list[np.ndarray]:
    """The weights of plain Keras, without strategy, with the whole batch."""
    model = _network()
    model.compile(_inner_optimizer(), "mse")
    global_batch = _PER_REPLICA_BATCH * replicas * _ACCUMULATION_STEPS
    model.fit(
        _dataset(global_batch, replicas),
        epochs=_EPOCHS,
        shuffle=False,
        verbose=0,
    )
    return model.get_weights()


def _all_reduce(strategy: Any, size: int) -> Callable[[], float]:
    """Returns a function that sums a tensor of so many bytes over replicas."""

    @tf.function
    def step(value: tf.Tensor) -> Any:
        def on_replica() -> tf.Tensor:
            total = tf.distribute.get_replica_context().all_reduce(
                tf.distribute.ReduceOp.SUM,
                tf.fill([size // tf.float32.size], value),
            )
            return total[0]

        return strategy.run(on_replica)

    def run() -> float:
        # A number has arrived only when the device is done.
        summed = step(tf.constant(1.0))
        return float(strategy.experimental_local_results(summed)[0])

    return run


def main(prefix: str = "") -> int:
    """Runs a self-test on the cluster that this process belongs to.

    Args:
        prefix: What each line of the report begins with. Defaults to nothing.

    Returns:
        The exit code: 0 where every worker has the weights of one device.
    """

    def say(text: str) -> None:
        for line in text.splitlines():
            print(f"{prefix}{line}", flush=True)

    name = "this process"
    try:
        cluster = Cluster.from_environment()
        if cluster and cluster.is_training and cluster.num_workers > 1:
            name = f"worker {cluster.index} ({cluster.address})"
            if cluster.is_chief:
                say(cluster.describe())
        strategy = auto_strategy()
        outcome = self_test(strategy)
    except Exception as error:
        traceback.print_exc()
        say(f"{name} failed: {error}")
        return 1
    if strategy.is_chief:
        say(str(outcome))
    elif strategy.worker_index in outcome.failed_workers:
        deviation = outcome.deviations[strategy.worker_index]
        say(f"{name} failed: its weights deviate by {deviation:.2g}")
    return 0 if outcome.passed else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
