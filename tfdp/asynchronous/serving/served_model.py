"""The weights and the optimizer, as the server holds them."""

import copy
import functools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tfdp.asynchronous.description import (
    Described,
    Description,
    check_arrays,
)
from tfdp.asynchronous.gradients import Gradient, Rows
from tfdp.upstream.keras import keras_optimizers

_WEIGHTS, _SLOTS = "weights", "optimizer"


class Weights(NamedTuple):
    """Weights of one version.

    Attributes:
        version: How many updates they have seen.
        values: Their values, in the order of the model's variables.
        read: Number of the read that was begun with them, from 1; 0 if none
            was, so that no update may follow.
    """

    version: int
    values: Sequence[np.ndarray]
    read: int = 0


class ServedModel:
    """Variables on one device, and what updates them; knows no strategy.

    It is used by one thread at a time. An update is Keras's own, with clipping,
    decay, averages and constraints, as one device makes it: slots and the count
    of updates are those of all workers together.

    Args:
        description: What the chief trains.
        values: Initial values of its variables.
        device: Where they lie. Defaults to the processor.
        unimported: Modules whose classes are not known here, and why.
            Defaults to none.

    Raises:
        ValueError: If the values are not those of the variables, or the
            optimizer cannot be made here.
    """

    def __init__(
        self,
        description: Description,
        values: Sequence[np.ndarray],
        *,
        device: str = "CPU:0",
        unimported: Mapping[str, str] | None = None,
    ) -> None:
        anew = functools.partial(_anew, unimported=unimported or {})
        self.description = description
        self._device = device
        check_arrays(values, description.variables, "a value")
        if keras.config.floatx() != description.floatx:
            keras.config.set_floatx(description.floatx)
        with tf.device(device):
            self._variables = [
                _made(described, value, anew)
                for described, value in zip(
                    description.variables, values, strict=True
                )
            ]
            self.optimizer = anew(description.optimizer, "an optimizer")
            undecayed = [
                variable
                for variable, described in zip(
                    self._variables, description.variables, strict=True
                )
                if not described.decays
            ]
            if undecayed:
                self.optimizer.exclude_from_weight_decay(var_list=undecayed)
            self.optimizer.build(self._variables)
        self._updates: dict[tuple[int, ...], Callable[..., Any]] = {}
        self._values: list[np.ndarray] | None = None

    @property
    def iterations(self) -> int:
        """How many updates the optimizer has made."""
        return int(self.optimizer.iterations.numpy())

    def apply(self, gradients: Sequence[Gradient]) -> None:
        """Makes one update.

        Args:
            gradients: Of each variable, or `None` where the loss does not
                depend on it. They are not used by others any more.
        """
        there = tuple(i for i, g in enumerate(gradients) if g is not None)
        self._values = None
        with tf.device(self._device):
            update = self._updates.get(there) or self._update_of(there)
            update(
                [
                    _tensor(gradients[place], self._variables[place])
                    for place in there
                ]
            )

    def values(self) -> list[np.ndarray]:
        """Returns copies of the weights; the same ones until they change."""
        if self._values is None:
            self._values = [np.array(v.numpy()) for v in self._variables]
        return self._values

    def set_learning_rate(self, rate: float) -> None:
        """Sets the rate of all updates from now on.

        Raises:
            ValueError: If a schedule says what it is.
        """
        given = keras_optimizers.given_rate(self.optimizer)
        if not isinstance(given, float):
            raise ValueError(
                "A learning rate is set where it is a number. Received: "
                f"{rate} for an optimizer with a {type(given).__name__}. "
                "Leave out the callback, or the schedule."
            )
        self.optimizer.learning_rate = rate

    def finalize(self) -> None:
        """Does what Keras does at the end of training: averages of weights."""
        with tf.device(self._device):
            self.optimizer.finalize_variable_values(self._variables)
        self._values = None

    def state(self) -> dict[str, np.ndarray]:
        """Returns copies of all variables, by name, slots after weights."""
        return {name: np.array(v.numpy()) for name, v in self._named().items()}

    @property
    def state_bytes(self) -> int:
        """Length of what `state` returns."""
        named = self._named().values()
        return sum(v.numpy().nbytes for v in named)

    def check_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Checks that a state is of this model, or a part of it.

        Raises:
            ValueError: If it is of another.
        """
        named = self._named()
        for name, value in state.items():
            if name not in named:
                raise ValueError(
                    "A state is loaded into the model and optimizer that it is "
                    f"of. Received: {name!r}, which this one has not. Train "
                    "the model of the backup, or begin without it."
                )
            variable = named[name]
            expected = Described(
                name,
                tuple(variable.shape),
                keras.backend.standardize_dtype(variable.dtype),
            )
            check_arrays([value], [expected], "a saved value")

    def are_weights(self, state: Mapping[str, np.ndarray]) -> bool:
        """Whether all of a state are weights."""
        return all(name.partition("/")[0] == _WEIGHTS for name in state)

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Gives variables the values of a state, which may leave some out."""
        self.check_state(state)
        named = self._named()
        for name, value in state.items():
            named[name].assign(value)
        self._values = None

    def _named(self) -> dict[str, keras.Variable]:
        kinds = {_WEIGHTS: self._variables, _SLOTS: self.optimizer.variables}
        return {
            f"{kind}/{place}/{_unnumbered(variable.path)}": variable
            for kind, variables in kinds.items()
            for place, variable in enumerate(variables)
        }

    def _update_of(self, there: tuple[int, ...]) -> Callable[..., Any]:
        variables = [self._variables[i] for i in there]

        # Keras would leave out what has no gradient, and warn.
        # Rows are more or fewer each time.
        @tf.function(autograph=False, reduce_retracing=True)
        def update(gradients: list[tf.Tensor | tf.IndexedSlices]) -> None:
            self.optimizer.apply(gradients, variables)

        self._updates[there] = update
        return update


def _tensor(
    gradient: Gradient, variable: keras.Variable
) -> tf.Tensor | tf.IndexedSlices:
    if not isinstance(gradient, Rows):
        return tf.convert_to_tensor(gradient)
    return tf.IndexedSlices(
        tf.convert_to_tensor(gradient.values),
        tf.convert_to_tensor(gradient.indices),
        tf.constant(variable.shape, "int64"),
    )


def _unnumbered(path: str) -> str:
    # The place tells variables apart; the process that loads a state may have
    # made others before.
    return re.sub(r"_\d+(?=[_/]|$)", "", path)


def _made(
    described: Described, value: np.ndarray, anew: Callable[[Any, str], Any]
) -> keras.Variable:
    # Under the path of the model's, for a constraint or a decay that goes by
    # names.
    name = described.path.rpartition("/")[2]
    variable = keras.Variable(
        value, dtype=described.dtype, trainable=True, name=name
    )
    keras_optimizers.name_as(variable, described.path)
    if described.constraint is not None:
        variable.constraint = anew(described.constraint, "a constraint")
    if described.overwritten:
        variable.overwrite_with_gradient = True
    return variable


def _anew(configuration: Any, what: str, unimported: Mapping[str, str]) -> Any:
    try:
        # Keras puts into it what it has made.
        return keras.saving.deserialize_keras_object(
            copy.deepcopy(configuration), safe_mode=True
        )
    except Exception as error:
        name = configuration.get("class_name", configuration)
        text = json.dumps(configuration)
        missing = "".join(
            f"The server could not import {module}: {why}. "
            for module, why in unimported.items()
            if json.dumps(module) in text
        )
        raise ValueError(
            f"A server makes {what} anew, from what Keras or an imported "
            f"module knows. Received: {name}, which it cannot make: {error} "
            f"{missing}Put the class into a module, register it by "
            "`keras.saving.register_keras_serializable`, and name the module."
        ) from error
