"""What TensorFlow's checkpoints cannot hold of an optimizer."""

from typing import NoReturn

import tensorflow as tf


class NotInCheckpoints(tf.train.experimental.PythonState):
    """Stands where slots would be, of which each worker has only its own."""

    def serialize(self) -> NoReturn:
        """Refuses to be saved.

        Raises:
            RuntimeError: Always.
        """
        raise RuntimeError(
            "A `tf.train.Checkpoint` holds what one worker has. Received: an "
            "optimizer with ShardedState on several workers, each of which "
            "has a part of the slots. Use `tfdp.callbacks.BackupAndRestore`, "
            "or `model.save` after `optimizer.gather_state()` on all workers."
        )

    def deserialize(self, string_value: str) -> None:
        """Has nothing to restore; `serialize` has never written anything."""
