"""On which devices a mirrored variable is made.

A doorway to private names of TensorFlow, each of which has a contract in
`tests/upstream/test_tf_placement.py`.
"""

import contextlib
import types
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfdp.upstream.private import Member, MissingNameError

# What `colocate_with` is asked for; `colocate_vars_with` needs a variable that
# is there already.
_devices = Member(
    "_devices", serves="the weights of a `tfdp.Stage` would be on other devices"
)


def variables_on(
    devices: Sequence[str],
) -> contextlib.AbstractContextManager[None]:
    """Has a strategy make variables on other devices than its own.

    Args:
        devices: For each of its replicas here, in their order, one.

    Raises:
        MissingNameError: When a variable is made, and is elsewhere.
    """
    place = types.SimpleNamespace(**{_devices.name: tuple(devices)})

    def create(next_creator: Any, **arguments: Any) -> tf.Variable:
        if arguments.get("colocate_with") is not None:
            return next_creator(**arguments)
        try:
            variable = next_creator(**{**arguments, "colocate_with": place})
        except AttributeError as error:
            raise _missing() from error
        if devices_of(variable) != list(devices):
            raise _missing()
        return variable

    return tf.variable_creator_scope(create)


def devices_of(variable: tf.Variable) -> list[str]:
    """Returns the devices of the copies of a variable that are here."""
    strategy = getattr(variable, "distribute_strategy", None)
    if strategy is None:
        return [variable.device]
    copies = strategy.experimental_local_results(variable)
    return [each.device for each in copies]


def _missing() -> MissingNameError:
    return MissingNameError(
        _devices.name, "`colocate_with` of a strategy", _devices.serves
    )
