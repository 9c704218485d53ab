"""When Keras makes a variable, where, and what is assigned to it.

A doorway to private names of Keras, each of which has a contract in
`tests/upstream/test_keras_variables.py`.
"""

import contextlib
from collections.abc import Callable, Iterable
from typing import Any, Self

import keras
import tensorflow as tf

from tfdp.upstream.private import Member, MissingNameError

_PLACES = "the weights of a `tfdp.Stage` would be on the first device"
_value = Member("_value", serves=_PLACES)
_deferred_initialize = Member("_deferred_initialize", serves=_PLACES)
_original_scope = Member(
    "original_scope", serves="a `tfdp.Stage` would not know what is assigned"
)
# What the function that makes a variable's first value closes over.
_INITIALIZER = "initializer"


def made_value(variable: keras.Variable) -> tf.Variable | None:
    """Returns TensorFlow's variable; `None` where Keras makes it later."""
    return _value.of(variable)


def make_later_within(
    variable: keras.Variable,
    context: Callable[[], contextlib.AbstractContextManager[Any]],
) -> None:
    """Has Keras make a variable in a context, whenever it does.

    While a model is gone through for its shapes alone, Keras makes variables
    once that has ended.

    Args:
        variable: One that is not made yet.
        context: Returns the context.
    """
    make = _deferred_initialize.of(variable)

    def make_within() -> None:
        vars(variable).pop(_deferred_initialize.name)
        with context():
            make()

    _deferred_initialize.replace(variable, make_within)


def make_anew(variable: keras.Variable) -> None:
    """Makes a variable again, where the surrounding contexts have it."""
    old = _value.of(variable)
    with tf.init_scope():
        new = tf.Variable(
            # That of a copy which is here: workers need not meet for it.
            _first(old).read_value(),
            dtype=old.dtype,
            trainable=old.trainable,
            name=variable.name,
            aggregation=old.aggregation,
            synchronization=old.synchronization,
        )
    _value.replace(variable, new)


def _first(variable: tf.Variable) -> tf.Variable:
    strategy = getattr(variable, "distribute_strategy", None)
    if strategy is None:
        return variable
    return strategy.experimental_local_results(variable)[0]


def is_filled_by_keras(initial_value: Any) -> bool:
    """Whether a variable begins as zeros or ones, by its initializer.

    Args:
        initial_value: What `tf.Variable` was given for it. Where it is no
            function of Keras's, or not the one that is known, the answer is
            no.
    """
    code = getattr(initial_value, "__code__", None)
    if code is None or _INITIALIZER not in code.co_freevars:
        return False
    cell = initial_value.__closure__[code.co_freevars.index(_INITIALIZER)]
    kind = type(cell.cell_contents)
    return kind in (keras.initializers.Zeros, keras.initializers.Ones)


class Recording(keras.StatelessScope):
    """Notes what layers add as losses and assign, and does neither.

    What the block reads of a variable is what was assigned in it last, or in
    the block around it.

    Args:
        variables: What may be read of the block around it.

    Attributes:
        losses: What was given to `add_loss`, in order.
        updates: By id of a variable, the variable and its new value.
    """

    def __init__(self, variables: Iterable[keras.Variable]) -> None:
        super().__init__(collect_losses=True)
        self._variables = list(variables)
        self.updates: dict[int, tuple[keras.Variable, tf.Tensor]] = {}

    def __enter__(self) -> Self:
        super().__enter__()
        try:
            around = _original_scope.of(self)
        except MissingNameError:
            self.__exit__()
            raise
        if around is not None:
            for variable in self._variables:
                value = around.get_current_value(variable)
                if value is not None:
                    self.state_mapping[id(variable)] = value
        return self

    def add_update(self, update: tuple[keras.Variable, tf.Tensor]) -> None:
        """Notes an assignment; called by Keras."""
        super().add_update(update)
        self.updates[id(update[0])] = update

    def take_losses(self) -> list[tf.Tensor]:
        """Returns the losses so far, and forgets them."""
        taken = list(self.losses)
        self.losses.clear()
        return taken

    def assign(self) -> None:
        """Makes the assignments, after the block."""
        for variable, value in self.updates.values():
            variable.assign(value)


def are_substituted(variables: Iterable[keras.Variable]) -> bool:
    """Whether tensors stand for some variables, as in `stateless_call`."""
    with Recording(variables) as recording:
        return bool(recording.state_mapping)
