"""What all workers have measured, told to each of them."""

import math
from typing import Any

import numpy as np
import tensorflow as tf

from tfdp.agreement.gathering import all_gather
from tfdp.throughput import Memory, StepTimes, Window


def gathered_window(
    strategy: Any, times: StepTimes, memory_bytes: int, **facts: Any
) -> Window:
    """Returns one window of what all workers have measured; a collective.

    Args:
        strategy: The strategy whose workers meet.
        times: What this worker has measured.
        memory_bytes: Resident memory of this process.
        facts: What else `Window.of` is told.

    Returns:
        The window, the same on every worker.

    Raises:
        ValueError: If a worker has counted less than nothing.
    """
    replicas = strategy.num_replicas_in_sync // strategy.num_workers
    entries = all_gather(strategy, [times.entries], often=True)
    # Few sizes make few graphs.
    capacity = 1 << int(entries.max()).bit_length()
    devices = strategy.extended.worker_devices
    memory = [float(memory_bytes), *map(_memory_of, devices)]
    table = all_gather(
        strategy, np.append(times.as_vector(capacity), memory), often=True
    )
    edge = -len(memory)
    workers = [StepTimes.from_vector(row[:edge], replicas) for row in table]
    for each in workers:
        _check_counts(each)
    return Window.of(
        workers,
        memory=Memory(
            tuple(table[:, edge].tolist()),
            tuple(
                size if size >= 0 else math.nan
                for size in table[:, edge + 1 :].ravel().tolist()
            ),
        ),
        is_bound=any("CPU" not in device for device in devices),
        **facts,
    )


def _memory_of(device: str) -> float:
    """Returns the largest use of a GPU's memory, -1 for a processor."""
    if "GPU" not in device:
        return -1.0
    index = device.rpartition(":")[2]
    return float(tf.config.experimental.get_memory_info(f"GPU:{index}")["peak"])


def _check_counts(times: StepTimes) -> None:
    least = times.samples.min(initial=0)
    if math.isnan(least) or least < 0:
        raise ValueError(
            "`samples_fn` must return a number of at least 0. Received: "
            f"{least}. Return how many there are in the batch it is given."
        )
