"""What a server must know of a model: its variables, and the optimizer."""

import dataclasses
import json
import math
import warnings
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from tfdp.agreement import same_program
from tfdp.asynchronous import programs
from tfdp.upstream.keras import keras_optimizers


@dataclasses.dataclass(frozen=True)
class Described:
    """A variable, without its value.

    Attributes:
        path: Its name in the model.
        shape: Its shape.
        dtype: Its dtype.
        constraint: Configuration of its constraint, if it has one.
        decays: Whether the optimizer was not told to leave it undecayed.
        overwritten: Whether its gradient takes its place.
        summed: Whether workers add it up at the end of an epoch, instead of
            taking the mean.
    """

    path: str
    shape: tuple[int, ...]
    dtype: str
    constraint: Any = None
    decays: bool = True
    overwritten: bool = False
    summed: bool = False

    @property
    def bytes(self) -> int:
        """Length of its value."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    @property
    def name(self) -> str:
        """Its path, without what Keras numbers by what was made before."""
        return same_program.unnumbered(self.path)


@dataclasses.dataclass(frozen=True)
class Description:
    """A model as a server holds it.

    Attributes:
        variables: What is trained.
        statistics: What workers bring together at the end of an epoch.
        optimizer: Configuration of the optimizer.
        floatx: Keras's default dtype.
        local: Configuration of what workers update with by themselves; it is
            compared, and not made.
        program: How it is trained, by name, in short words; it is compared.
    """

    variables: tuple[Described, ...]
    statistics: tuple[Described, ...]
    optimizer: Any
    floatx: str = "float32"
    local: Any = None
    program: dict[str, str] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(
        cls,
        variables: Sequence[keras.Variable],
        optimizer: keras.optimizers.Optimizer,
        statistics: Sequence[keras.Variable] = (),
        sums: Sequence[keras.Variable] = (),
    ) -> "Description":
        """Describes what a worker trains.

        Args:
            variables: The trainable variables.
            optimizer: What updates them, built for them or not.
            statistics: Variables that are averaged at the end of an epoch.
            sums: Variables that are added up then.

        Raises:
            ValueError: If the optimizer or a constraint cannot be made anew
                from its configuration, in another process.
        """
        return cls(
            tuple(
                Described(
                    variable.path,
                    tuple(variable.shape),
                    keras.backend.standardize_dtype(variable.dtype),
                    _configuration(variable.constraint),
                    keras_optimizers.decays(optimizer, variable),
                    bool(getattr(variable, "overwrite_with_gradient", False)),
                )
                for variable in variables
            ),
            tuple(
                Described(
                    variable.path,
                    tuple(variable.shape),
                    keras.backend.standardize_dtype(variable.dtype),
                    summed=summed,
                )
                for summed, variables in ((False, statistics), (True, sums))
                for variable in variables
            ),
            _configuration(optimizer),
            keras.config.floatx(),
        )

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> "Description":
        """Returns what `fields` has made fields of.

        Raises:
            ValueError: If it has not.
        """
        try:
            given = {
                name: tuple(
                    Described(**{**each, "shape": tuple(each["shape"])})
                    for each in fields[name]
                )
                for name in ("variables", "statistics")
            }
            made = cls(**{**fields, **given})
            sizes = [v.bytes for v in (*made.variables, *made.statistics)]
            is_right = all(type(size) is int and size >= 0 for size in sizes)
            is_right = is_right and programs.is_short(made.program)
        except (TypeError, KeyError, ValueError):
            is_right = False
        if not is_right:
            raise ValueError(
                "A worker must describe the model that it trains. Received: "
                f"{str(fields)[:200]}. Use the same tfdp on all workers."
            )
        return made

    @property
    def fields(self) -> dict[str, Any]:
        """What of it goes into a message."""
        return dataclasses.asdict(self)

    @property
    def bytes(self) -> int:
        """Length of all values, and of the numbers of all rows."""
        return sum(
            v.bytes + 8 * math.prod(v.shape[:1])
            for v in (*self.variables, *self.statistics)
        )

    def is_same(self, other: "Description") -> bool:
        """Whether another is of the same model and optimizer."""
        return not any(_differences(self, other))

    def check_same(
        self,
        other: "Description",
        *,
        worker: int,
        overruled: Collection[str] = (),
    ) -> None:
        """Checks that a worker trains what the chief trains, and as it does.

        Args:
            other: What the worker trains.
            worker: Its index.
            overruled: Names of the program of which the chief's count. Defaults
                to none.

        Raises:
            ValueError: If it is another model, optimizer or program.
        """
        programs.check_same(
            self.program, other.program, worker=worker, overruled=overruled
        )
        for what, ours, theirs in _differences(self, other, overruled):
            raise ValueError(
                "Every worker must train the same model with the same "
                f"optimizer. Received: {what} is {ours} on the chief and "
                f"{theirs} on worker {worker}. Start the same program on all "
                "workers."
            )


def check_arrays(
    arrays: Sequence[np.ndarray | None],
    described: Sequence[Described],
    what: str,
) -> None:
    """Checks that arrays are like some variables.

    Args:
        arrays: The arrays, or `None` for those that are missing.
        described: The variables.
        what: What they are, for the error.

    Raises:
        ValueError: If one is not.
    """
    if len(arrays) != len(described):
        raise ValueError(
            f"There must be {what} for each variable. Received: {len(arrays)} "
            f"for {len(described)} variables. Train the model that the worker "
            "has joined with."
        )
    for array, variable in zip(arrays, described, strict=True):
        expected = variable.dtype, variable.shape
        if array is not None and (array.dtype.name, array.shape) != expected:
            raise ValueError(
                f"There must be {what} of each variable's dtype and shape. "
                f"Received: {array.dtype.name} {array.shape} for "
                f"{variable.path}, which is {variable.dtype} {variable.shape}. "
                "Train the model that the worker has joined with."
            )


def _differences(
    ours: Description, theirs: Description, overruled: Collection[str] = ()
) -> Iterator[tuple[str, Any, Any]]:
    if ours.floatx != theirs.floatx:
        yield "keras.config.floatx()", ours.floatx, theirs.floatx
    for what in ("variables", "statistics"):
        one, other = getattr(ours, what), getattr(theirs, what)
        if len(one) != len(other):
            kind = {"variables": "trainable", "statistics": "non-trainable"}
            what = f"the number of {kind[what]} variables"
            yield what, len(one), len(other)
        for a, b in zip(one, other, strict=False):
            for field in dataclasses.fields(a):
                name = "name" if field.name == "path" else field.name
                values = getattr(a, name), getattr(b, name)
                if _plain(values[0]) != _plain(values[1]):
                    yield f"{name} of the variable {a.path}", *values
    for what, part in (
        ("the optimizer", "optimizer"),
        ("the inner optimizer", "local"),
    ):
        one, other = (
            _plain(_without(getattr(each, part), overruled))
            for each in (ours, theirs)
        )
        if one != other:
            yield what, one, other


def _without(configuration: Any, names: Collection[str]) -> Any:
    """Leaves numbers of a configuration out."""
    config = (configuration or {}).get("config")
    if not isinstance(config, dict):
        return configuration
    kept = {
        name: value
        for name, value in config.items()
        if name not in names or not isinstance(value, float)
    }
    return {**configuration, "config": kept}


def _plain(value: Any) -> Any:
    if isinstance(value, dict | list):
        return json.dumps(same_program.unnamed(value), sort_keys=True)
    return value


def _configuration(made: Any) -> Any:
    if made is None:
        return None
    try:
        with warnings.catch_warnings():
            # Of a rate that is a lambda, which is refused below.
            warnings.simplefilter("ignore")
            configuration = keras.saving.serialize_keras_object(made)
        text = json.dumps(configuration)
        why = "it holds a lambda" if '"__lambda__"' in text else ""
        why = why or _loss(made, json.loads(text))
    except Exception as error:
        why = str(error) or type(error).__name__
    if why:
        raise ValueError(
            "Asynchronous training needs what its server can make anew from "
            f"a configuration. Received: {type(made).__name__}, which cannot "
            f"be: {why}. Write `get_config` for it and what it holds, and a "
            "schedule in place of a function."
        )
    return json.loads(text)


def _loss(made: Any, configuration: Any) -> str:
    """Says what would be lost on the way; empty if nothing is."""
    if not isinstance(made, keras.optimizers.Optimizer):
        return ""
    # Keras puts into it what it has made.
    again = keras.saving.deserialize_keras_object(configuration)
    lost = keras_optimizers.lost_by_configuration(made, again)
    return f"its configuration loses {', '.join(lost)}" if lost else ""
