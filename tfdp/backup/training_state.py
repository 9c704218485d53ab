"""The values of everything that training changes, on every replica."""

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfdp.agreement import all_gather, broadcast
from tfdp.optimizer import DistributedOptimizer
from tfdp.strategy import DataParallelStrategy
from tfdp.upstream.keras import inspection

Arrays = dict[str, np.ndarray]
_SERVED = "served "
_QUEUE = _SERVED + "queue/"


class TrainingState:
    """Reads and writes the state of a model in training.

    Weights, seeds and the optimizers' variables are the same on all replicas.
    Statistics of layers, sums of metrics, counts of samples, and the slots of
    replicas that update alone are each replica's own. Slots that replicas have
    shared out have one owner each. What a server has, it is asked for.

    Args:
        model: A built and compiled model.
        strategy: The strategy in whose scope it was built.
    """

    def __init__(
        self, model: keras.Model, strategy: DataParallelStrategy
    ) -> None:
        self._strategy = strategy
        optimizers = inspection.optimizers(model)
        statistics = inspection.statistics(model)
        ours = self._optimizers = [
            optimizer
            for optimizer in optimizers
            if isinstance(optimizer, DistributedOptimizer) and optimizer.built
        ]
        ways = self._ways = [each.synchronized_by for each in ours]
        own = [variable for way in ways for variable in way.replica_variables]
        owned = [variable for way in ways for variable in way.owned_variables]
        waiting = [variable for way in ways for variable in way.replica_sums]
        served = [variable for way in ways for variable in way.served_variables]
        apart = {
            id(variable) for variable in (*statistics, *own, *owned, *served)
        }
        shared = {
            id(variable): variable
            for variable in (
                *model.variables,
                *(v for optimizer in optimizers for v in optimizer.variables),
            )
            if id(variable) not in apart
        }
        of_model = set(map(id, model.variables))
        self._of_model = [
            *(f"shared {i}" for i, v in enumerate(shared) if v in of_model),
            *(f"mean {i}" for i, _ in enumerate(statistics)),
        ]
        self._paths = {
            **{f"shared {i}": v.path for i, v in enumerate(shared.values())},
            **{f"mean {i}": v.path for i, v in enumerate(statistics)},
            **{f"own {i}": v.path for i, v in enumerate(own)},
            **{f"owned {i}": v.path for i, v in enumerate(owned)},
        }
        self._shared = {
            f"shared {i}": v.value for i, v in enumerate(shared.values())
        }
        self._means = {f"mean {i}": v.value for i, v in enumerate(statistics)}
        self._own = {f"own {i}": v.value for i, v in enumerate(own)}
        self._owned = {f"owned {i}": v for i, v in enumerate(owned)}
        self._sums = {
            **{
                f"sum {i}": variable.value
                for i, variable in enumerate(model.metrics_variables)
            },
            **{f"samples {i}": o.sample_counter for i, o in enumerate(ours)},
            **{f"waiting {i}": each for i, each in enumerate(waiting)},
        }

    def captured(
        self, *, in_epoch: bool = True, is_kept: bool = True
    ) -> Arrays:
        """Returns the values, by name; a collective.

        Args:
            in_epoch: Whether an epoch is under way, of which a server knows
                what is left. Defaults to `True`.
            is_kept: Whether the arrays are used after the next update, for
                which they are copied. Defaults to `True`.

        Returns:
            Arrays in the shape of their variables; those that are each
            replica's own have an axis of all replicas before. Of what is the
            same everywhere, or has one owner, nothing but on the chief.
        """
        shared = self._shared if self._strategy.is_chief else {}
        owned = [v for each in self._optimizers for v in each.gather_state()]
        return {
            **{
                name: self._first(v) if is_kept else self._seen(v)
                for name, v in shared.items()
            },
            # On other workers none.
            **dict(zip(self._owned, map(_storable, owned), strict=False)),
            **{
                name: array
                for name, array in self._served().items()
                if in_epoch or not name.startswith(_QUEUE)
            },
            **self._of_all_replicas(
                {**self._means, **self._own, **self._sums}, often=not is_kept
            ),
        }

    def check(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Checks that values are those of this model.

        Args:
            arrays: What `captured` has returned, in another process perhaps.

        Raises:
            ValueError: If names or shapes differ.
        """
        variables = {
            **self._shared,
            **self._means,
            **self._own,
            **self._owned,
            **self._sums,
        }
        whole = {*self._shared, *self._owned}
        served = {n: a.shape for n, a in self._served().items()}
        expected = {name: tuple(v.shape) for name, v in variables.items()}
        expected |= served
        received = {
            name: array.shape
            if name in whole or name.startswith(_SERVED)
            else array.shape[1:]
            for name, array in arrays.items()
        }
        # How far an epoch is has no shape of its own.
        for names in (expected, received):
            for name in [name for name in names if name.startswith(_QUEUE)]:
                del names[name]
        if expected != received:
            name = next(
                name
                for name in (*expected, *received)
                if expected.get(name) != received.get(name)
            )
            raise ValueError(
                "A backup must be of the model and optimizer that resume. "
                f"Received: {received.get(name, 'nothing')} in the backup, "
                f"for {self._paths.get(name, name)} of shape "
                f"{expected.get(name, 'nothing')} in the model. Build the "
                "same model, or delete the backup to begin anew."
            )

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Gives everything but metrics the values that were captured.

        Where the number of replicas has changed, all get the mean of what is
        each replica's own, and the first one the counts of all.

        Args:
            arrays: What `captured` has returned.
        """
        for name, variable in self._shared.items():
            for component in self._components(variable):
                _assign(component, arrays[name])
        for name, slot in self._owned.items():
            slot.assign(arrays[name])
        for name, variable in {**self._means, **self._own}.items():
            values = self._spread(arrays[name], adds=False)
            self._assign_own(variable, values)
        self._restore_sums("samples", arrays)
        self._restore_sums("waiting", arrays)
        for way in self._ways:
            way.serve(
                {
                    name.removeprefix(_SERVED): array
                    for name, array in arrays.items()
                    if name.startswith(_SERVED)
                }
            )

    def restore_metrics(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Gives metrics the values that were captured.

        Args:
            arrays: What `captured` has returned.
        """
        self._restore_sums("sum", arrays)

    def broadcast(self) -> list[str]:
        """Gives every worker the chief's values; a collective.

        What replicas that update alone have kept stays theirs, and the slots
        of owners.

        Returns:
            Names of the variables that differed on some worker.
        """
        if self._strategy.num_workers == 1:
            return []
        own = {**self._shared, **self._means}
        digests = all_gather(
            self._strategy, [_digest(self._first(v)) for v in own.values()]
        )
        differing = [
            name
            for name, column in zip(own, digests.T, strict=True)
            if (column != column[0]).any()
        ]
        for name in differing:
            values = broadcast(self._strategy, self._first(own[name]))
            for component in self._components(own[name]):
                _assign(component, values)
        return [self._paths[name] for name in differing]

    def captured_rest(self) -> Arrays:
        """Returns what the model has beside what a server has."""
        return {name: self._first(v) for name, v in self._rest().items()}

    def restore_rest(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Gives this worker's model what that of another has.

        Args:
            arrays: What `captured_rest` has returned there.
        """
        for name, variable in self._rest().items():
            for component in self._components(variable):
                _assign(component, arrays[name])

    def _rest(self) -> dict[str, Any]:
        found = {**self._shared, **self._means}
        return {name: found[name] for name in self._of_model}

    def _served(self) -> Arrays:
        if not self._strategy.is_chief:
            return {}
        return {
            _SERVED + name: _storable(array)
            for way in self._ways
            for name, array in way.served().items()
        }

    def _restore_sums(
        self, kind: str, arrays: Mapping[str, np.ndarray]
    ) -> None:
        for name, total in self._sums.items():
            if name.startswith(kind):
                values = self._spread(arrays[name], adds=True)
                self._assign_own(total, values)

    def _first(self, variable: Any) -> np.ndarray:
        return _value(self._components(variable)[0])

    def _seen(self, variable: Any) -> np.ndarray:
        """Where the first component is in memory, until it changes."""
        value = self._components(variable)[0].read_value()
        try:
            return np.asarray(memoryview(value))
        except (BufferError, TypeError, ValueError):
            # Buffers of Python know no bfloat16.
            return _storable(value.numpy())

    def _components(self, variable: Any) -> Sequence[tf.Variable]:
        return self._strategy.experimental_local_results(variable)

    def _of_all_replicas(
        self, variables: Mapping[str, Any], *, often: bool
    ) -> Arrays:
        own = {
            name: np.stack([_value(c) for c in self._components(variable)])
            for name, variable in variables.items()
        }
        if self._strategy.num_workers == 1:
            return own
        flat = [array.astype(np.float64).ravel() for array in own.values()]
        values = np.concatenate([*flat, [0.0]])
        rows = all_gather(self._strategy, values, often=often)
        ends = np.cumsum([each.size for each in flat])
        return {
            name: np.concatenate(
                [
                    row[end - array.size : end].reshape(array.shape)
                    for row in rows
                ]
            ).astype(array.dtype)
            for (name, array), end in zip(own.items(), ends, strict=True)
        }

    def _assign_own(self, variable: Any, values: np.ndarray) -> None:
        components = self._components(variable)
        first = self._strategy.worker_index * len(components)
        for place, component in enumerate(components, first):
            _assign(component, values[place])

    def _spread(self, values: np.ndarray, *, adds: bool) -> np.ndarray:
        """Values of other replicas, for those of this strategy."""
        replicas = self._strategy.num_replicas_in_sync
        if len(values) == replicas:
            return values
        if adds:
            others = np.zeros((replicas - 1, *values.shape[1:]), values.dtype)
            return np.concatenate([values.sum(0, keepdims=True), others])
        is_floating = np.issubdtype(values.dtype, np.floating)
        value = values.mean(0) if is_floating else values[0]
        return np.stack([value] * replicas)


def _value(component: tf.Variable) -> np.ndarray:
    return _storable(component.numpy())


def _storable(value: np.ndarray) -> np.ndarray:
    # NumPy's files know no bfloat16.
    is_numpy = value.dtype.kind in "biuf"
    return value if is_numpy else value.astype(np.float32)


def _assign(component: tf.Variable, value: np.ndarray) -> None:
    component.assign(tf.cast(value, component.dtype))


def _digest(value: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(value).tobytes())


def check_built(optimizers: list[keras.optimizers.Optimizer]) -> None:
    """Checks that optimizers have made the variables that are backed up.

    Args:
        optimizers: Those of a model.

    Raises:
        RuntimeError: If one has not.
    """
    for optimizer in optimizers:
        if not optimizer.built:
            raise RuntimeError(
                "Every optimizer must be built before training begins, to be "
                f"backed up. Received: {type(optimizer).__name__} "
                f"{optimizer.name!r}, which is not. Call "
                "`optimizer.build(variables)` with the variables that it "
                "trains, in the scope of the strategy."
            )
