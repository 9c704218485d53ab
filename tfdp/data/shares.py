"""Which samples of a micro-batch are whose."""

import dataclasses
import itertools


@dataclasses.dataclass(frozen=True)
class Share:
    """What a worker is given of each micro-batch.

    Args:
        worker_index: Place of the worker among all.
        num_workers: How many there are.
        replicas: Replicas of each worker.
    """

    worker_index: int
    num_workers: int
    replicas: int

    def rows(self, micro_batch: int) -> list[tuple[int, int]]:
        """Where the rows of this worker's replicas begin and end.

        Each replica has rows that follow each other, as many as the others
        or one less: what TensorFlow gives it of a batch.

        Args:
            micro_batch: Samples of a full micro-batch. Of a smaller one, rows
                that are not there are missing at the end.
        """
        size, larger = divmod(micro_batch, self.num_workers * self.replicas)
        first = self.worker_index * self.replicas
        bounds = [
            place * size + min(place, larger)
            for place in range(first, first + self.replicas + 1)
        ]
        return list(itertools.pairwise(bounds))

    def sizes(self, micro_batch: int) -> list[int]:
        """How many samples each replica has, where a worker has every Nth.

        After as many micro-batches as there are workers, `micro_batch` samples
        of each worker are used up, and all begins anew.

        Args:
            micro_batch: Samples of a full micro-batch.

        Returns:
            For each of those micro-batches, a number for each replica of this
            worker.
        """
        bounds = [
            self._own_of(step * micro_batch)
            for step in range(self.num_workers + 1)
        ]
        return [
            (end - begin + self.replicas - 1 - replica) // self.replicas
            for begin, end in itertools.pairwise(bounds)
            for replica in range(self.replicas)
        ]

    def steps(self, samples: int, micro_batch: int) -> int:
        """In how many steps a worker has used up samples.

        Args:
            samples: How many it has, one of every `num_workers`.
            micro_batch: Samples of a full micro-batch.
        """
        if samples == 0:
            return 0
        whole, last = divmod(samples - 1, micro_batch)
        begun = sum(
            self._own_of(step * micro_batch) <= last
            for step in range(self.num_workers)
        )
        return whole * self.num_workers + begun

    def _own_of(self, samples: int) -> int:
        """How many of the first samples of all are this worker's."""
        others_first = self.num_workers - 1 - self.worker_index
        return (samples + others_first) // self.num_workers
