"""Trains a small problem on a cluster, and compares with one device.

`python -m tfdp.bench.selftest` is one worker of such a test; `tfdp selftest`
starts it.
"""

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfdp.agreement import all_gather
from tfdp.bench import probe
from tfdp.bench.all_reduce_trials import all_reducing, ones
from tfdp.bench.selftest_outcome import MEBIBYTE, Outcome, weight_deviation
from tfdp.callbacks.data_parallel import DataParallel
from tfdp.callbacks.throughput_monitor import ThroughputMonitor
from tfdp.optimizer import DistributedOptimizer

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
            reduce = all_reducing(strategy, ones(strategy, [size]))
            seconds[size] = median_seconds(reduce)
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a self-test on the cluster that this process belongs to.

    Args:
        arguments: Those of `tfdp.bench.probe`. Defaults to those of the
            process.

    Returns:
        The exit code: 0 where every worker has the weights of one device.
    """
    options = probe.parser("tfdp.bench.selftest").parse_args(arguments)

    def examine(strategy: Any, say: probe.Say) -> bool:
        outcome = self_test(strategy)
        if strategy.is_chief:
            say(str(outcome))
        elif strategy.worker_index in outcome.failed_workers:
            deviation = outcome.deviations[strategy.worker_index]
            raise RuntimeError(f"its weights deviate by {deviation:.2g}")
        return outcome.passed

    return probe.run(examine, options.prefix)


if __name__ == "__main__":
    sys.exit(main())
