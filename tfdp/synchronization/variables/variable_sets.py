"""Which variables the updates are of that belong together."""

import zlib
from collections.abc import Sequence

import keras
import tensorflow as tf

from tfdp.upstream.keras import keras_optimizers


class VariableSets:
    """Sets of an optimizer's variables, each by a key, the same in any process.

    Steps are of the same variables, until a layer is frozen or thawed. What
    lasts for several steps has to know whose it is.

    Args:
        optimizer: What updates them.
        variables: All that it updates.
    """

    def __init__(
        self,
        optimizer: keras.optimizers.Optimizer,
        variables: Sequence[keras.Variable],
    ) -> None:
        self._optimizer = optimizer
        self._all = list(variables)
        self._sets: dict[int, list[keras.Variable]] = {}

    def add(self, variables: Sequence[keras.Variable]) -> int:
        """Takes in a set, and returns its key, which is not 0.

        Args:
            variables: Those of a step.
        """
        places = [
            keras_optimizers.place_of(self._optimizer, v) for v in variables
        ]
        key = zlib.crc32(repr(places).encode()) or 1
        self._sets.setdefault(key, list(variables))
        return key

    def of(self, key: int) -> list[keras.Variable]:
        """Returns a set; all variables where none was taken in by that key.

        Args:
            key: What `add` has returned, in whichever process.
        """
        return self._sets.get(key, self._all)

    def check_same(self, under_way: tf.Tensor, key: int) -> tf.Tensor:
        """Checks, when a step runs, that it is of the set that is under way.

        Args:
            under_way: Scalar int64, the key of that set.
            key: That of the step's.

        Raises:
            tf.errors.InvalidArgumentError: If it is of another.
        """
        check = tf.debugging.Assert(
            tf.equal(under_way, key),
            [
                "Until replicas meet, every update must be of the same "
                f"variables. Received: an update of {len(self.of(key))} "
                "variables after one of others. Use a DistributedOptimizer for "
                "each set of variables that a step updates, and call "
                "`optimizer.flush()` before layers are frozen or thawed."
            ],
        )
        with tf.control_dependencies([check]):
            return tf.constant(0)
