"""Where the random numbers of a program are that no model holds."""

import json
import random
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfdp.agreement import Workers, all_gather, gather_objects
from tfdp.backup.packing import packed, unpacked
from tfdp.upstream.keras import keras_models
from tfdp.upstream.private import optional


class RandomNumbers:
    """Knows where the global random numbers of all workers are.

    Those of Python, of NumPy, and of `keras.random` where it is given no seed.
    They travel only where some have been drawn.

    Args:
        strategy: The strategy whose workers meet.
    """

    def __init__(self, strategy: Workers) -> None:
        self._strategy = strategy
        self._before = ""
        self._by_worker: list[Any] = []

    def captured(self) -> list[Any]:
        """Returns where they are; a collective.

        Returns:
            The state of each worker, as JSON can hold it.
        """
        own = [
            random.getstate(),
            np.random.get_state(legacy=False),
            _kerass_state(self._strategy),
        ]
        inline: dict[str, np.ndarray] = {}
        text = packed(own, "", inline)
        listed = {n: [a.dtype.str, a.tolist()] for n, a in inline.items()}
        if self._strategy.num_workers == 1:
            return [[text, listed]]
        before, self._before = self._before, json.dumps([text, listed])
        has_drawn = [int(before != self._before)]
        if all_gather(self._strategy, has_drawn, often=True).any():
            self._by_worker = gather_objects(self._strategy, [text, listed])
        return self._by_worker


def restore_random_numbers(strategy: Workers, states: Sequence[Any]) -> None:
    """Has each worker draw the random numbers that it would have drawn.

    Args:
        strategy: The strategy of the workers.
        states: What `RandomNumbers` has captured. A worker that was not there
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
