"""Shares of all workers make up each micro-batch, whatever divides what."""

import itertools
import math

import pytest

from tfdp.data import Share

GRID = list(itertools.product(range(1, 10), [1, 2, 3, 4], [1, 2, 3]))


def shares(workers, replicas):
    return [Share(worker, workers, replicas) for worker in range(workers)]


def test_rows_of_all_replicas_follow_each_other():
    for micro_batch, workers, replicas in GRID:
        rows = [
            bounds
            for share in shares(workers, replicas)
            for bounds in share.rows(micro_batch)
        ]
        ends = [0, *(end for _, end in rows)]
        assert [begin for begin, _ in rows] == ends[:-1]
        assert ends[-1] == micro_batch
        sizes = [end - begin for begin, end in rows]
        assert max(sizes) - min(sizes) <= 1


def test_every_nth_sample_is_a_workers_in_each_micro_batch():
    for micro_batch, workers, replicas in GRID:
        for share in shares(workers, replicas):
            sizes = share.sizes(micro_batch)
            assert sum(sizes) == micro_batch
            for step in range(workers):
                samples = range(step * micro_batch, (step + 1) * micro_batch)
                own = [s for s in samples if s % workers == share.worker_index]
                here = sizes[step * replicas :][:replicas]
                assert sum(here) == len(own)
                assert max(here) - min(here) <= 1


@pytest.mark.parametrize("samples", [0, 1, 5, 12, 37])
def test_steps_end_with_the_last_sample(samples):
    for micro_batch, workers, replicas in GRID:
        steps = []
        for share in shares(workers, replicas):
            own = range(share.worker_index, samples, workers)
            steps.append(share.steps(len(own), micro_batch))
            assert steps[-1] == max(
                (s // micro_batch + 1 for s in own), default=0
            )
        assert max(steps) == math.ceil(samples / micro_batch)
