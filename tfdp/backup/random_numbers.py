"""Where the random numbers of a program are that no model holds."""

import random
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfdp.agreement import Workers, gather_objects
from tfdp.backup.packing import packed, unpacked
from tfdp.upstream.keras import keras_models
from tfdp.upstream.private import optional


def random_numbers(strategy: Workers) -> list[Any]:
    """Returns where the global random numbers are; a collective.

    Those of Python, of NumPy, and of `keras.random` where it is given no seed.

    Args:
        strategy: The strategy whose workers meet.

    Returns:
        The state of each worker, as JSON can hold it.
    """
    own = [
        random.getstate(),
        np.random.get_state(legacy=False),
        _kerass_state(strategy),
    ]
    inline: dict[str, np.ndarray] = {}
    text = packed(own, "", inline)
    listed = {name: [a.dtype.str, a.tolist()] for name, a in inline.items()}
    by_worker = [[text, listed]]
    if strategy.num_workers > 1:
        by_worker = gather_objects(strategy, by_worker[0])
    return by_worker


def restore_random_numbers(strategy: Workers, states: Sequence[Any]) -> None:
    """Has each worker draw the random numbers that it would have drawn.

    Args:
        strategy: The strategy of the workers.
        states: What `random_numbers` has returned. A worker that was not there
            then draws what the chief does.
    """
    index = strategy.worker_index
    text, listed = states[index if index < len(states) else 0]
    arrays = {
        name: np.array(values, dtype)
        for name, (dtype, values) in listed.items()
    }
    pythons, numpys, *kerass = unpacked(text, arrays)
    if kerass and kerass[0] is not None:
        _restore_kerass(strategy, kerass[0])
    # Last: the generator of Keras's draws its first seed by Python's.
    random.setstate(pythons)
    np.random.set_state(numpys)


def _kerass_state(strategy: Workers) -> list[np.ndarray] | None:
    with optional():
        generator = keras_models.global_seed_generator()
        if generator is not None:
            return [each.numpy() for each in _components(strategy, generator)]
    return None


def _restore_kerass(strategy: Workers, state: Sequence[np.ndarray]) -> None:
    with optional():
        generator = keras_models.global_seed_generator(make=True)
        for place, each in enumerate(_components(strategy, generator)):
            each.assign(state[place if place < len(state) else 0])


def _components(strategy: Any, generator: Any) -> Sequence[Any]:
    return strategy.experimental_local_results(generator.state.value)
