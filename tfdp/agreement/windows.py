"""What all workers have measured, told to each of them."""

import math
from typing import Any

import numpy as np
import tensorflow as tf

from tfdp.agreement.gathering import all_gather
from tfdp.throughput import WIDTH, Memory, StepTimes, Window


def gathered_window(
    strategy: Any,
    times: StepTimes,
    memory_bytes: int,
    rows: np.ndarray,
    **facts: Any,
) -> tuple[Window, list[np.ndarray]]:
    """Returns one window of what all workers have measured; a collective.

    Args:
        strategy: The strategy whose workers meet.
        times: What this worker has measured.
        memory_bytes: Resident memory of this process.
        rows: Single steps, as of `tfdp.throughput.spans`.
        facts: What else `Window.of` is told.

    Returns:
        The window and the rows of each worker, the same everywhere.

    Raises:
        ValueError: If a worker has counted less than nothing.
    """
    replicas = strategy.num_replicas_in_sync // strategy.num_workers
    entries = all_gather(strategy, [times.entries, len(rows)], often=True)
    # Few sizes make few graphs.
    capacity, most = (1 << int(n).bit_length() for n in entries.max(axis=0))
    devices = strategy.extended.worker_devices
    memory = [float(memory_bytes), *map(_memory_of, devices)]
    padded = np.zeros((most, WIDTH))
    padded[: len(rows)] = rows
    told: list[Any] = [times.as_vector(capacity), memory, padded.ravel()]
    table = all_gather(strategy, np.concatenate(told), often=True)
    table, spans = np.split(table, [-padded.size], axis=1)
    edge = -len(memory)
    workers = [StepTimes.from_vector(row[:edge], replicas) for row in table]
    for each in workers:
        _check_counts(each)
    window = Window.of(
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
    return window, [
        own.reshape(most, WIDTH)[:count]
        for own, count in zip(spans, entries[:, 1], strict=True)
    ]


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
