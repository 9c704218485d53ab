"""What gives a training its batches, and how it might do so faster."""

import dataclasses
from collections.abc import Sequence

_PREFETCH = "`dataset.prefetch(tf.data.AUTOTUNE)`"
_IN_PARALLEL = "`num_parallel_calls=` where samples are read and mapped"
_CACHE = "`cache()`"
_OF_PYTHON = {
    "arrays": "Keras takes each batch out of the arrays when it is wanted; "
    "larger batches are taken less often.",
    "generator": "Try a `tf.data.Dataset`, or a `keras.utils.PyDataset` with "
    "`workers=`: a generator makes one batch after the other.",
    "PyDataset": "Try more `workers=` of the `PyDataset`, or its "
    "`use_multiprocessing=True`.",
}
# After a prefetch these have nothing to wait for.
_PASSING_ON = {"Options", "Repeat", "Take", "Skip", "AssertCardinality"}
_IN_TURN = {"Map", "Interleave"}
_COMPUTING = {*_IN_TURN, "ParallelMap", "ParallelInterleave", "FlatMap"}
_IN_MEMORY = {"Tensor", "TensorSlice", "Range"}


@dataclasses.dataclass(frozen=True)
class Feed:
    """Where the batches of a training come from.

    Attributes:
        kind: `"arrays"`, `"generator"`, `"PyDataset"`, `"dataset"`, or
            `"unknown"`.
        steps: Of a dataset, what its pipeline does, from the end to the
            sources: the names of TensorFlow's classes without `Dataset`.

    Example:

    >>> Feed("dataset", ("Batch", "Shuffle", "TensorSlice")).cure
    'Try `dataset.prefetch(tf.data.AUTOTUNE)`.'
    """

    kind: str = "unknown"
    steps: Sequence[str] = ()

    @property
    def cure(self) -> str:
        """What to try where training waits for batches."""
        if self.kind in _OF_PYTHON:
            return _OF_PYTHON[self.kind]
        tries = [_PREFETCH, _IN_PARALLEL, _CACHE]
        if self.kind == "dataset":
            tries = self._missing()
        if not tries:
            return (
                "The pipeline works ahead already; larger batches are fetched "
                "less often, and more cores make them faster."
            )
        *others, last = tries
        listed = f"{', '.join(others)}, or {last}" if others else last
        return f"Try {listed}."

    def _missing(self) -> list[str]:
        steps = set(self.steps)
        last = next((s for s in self.steps if s not in _PASSING_ON), "")
        costs = steps & _COMPUTING or self.steps[-1] not in _IN_MEMORY
        missing = {
            _PREFETCH: last != "Prefetch",
            _IN_PARALLEL: bool(steps & _IN_TURN),
            _CACHE: "Cache" not in steps and bool(costs),
        }
        return [cure for cure, is_missing in missing.items() if is_missing]
