"""Scalars that TensorBoard shows, written without it."""

import contextlib
import os
import warnings
from collections.abc import Mapping
from typing import Literal

import numpy as np
import tensorflow as tf

# As `tf.summary.scalar` writes it, which needs the package `tensorboard`.
_SCALAR = tf.compat.v1.SummaryMetadata(
    data_class="DATA_CLASS_SCALAR", plugin_data={"plugin_name": "scalars"}
)


class EventFile:
    """A new file of events in a folder.

    Args:
        folder: What TensorBoard is given as `--logdir`; made where it is
            missing.

    Example:

    >>> import tempfile
    >>> file = EventFile(tempfile.mkdtemp())
    >>> file.write({"learning_rate": 0.1}, step=100)
    >>> file.close()
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._writer = tf.summary.create_file_writer(os.fspath(folder))
        self._has_failed = False

    def write(self, scalars: Mapping[str, float], step: int) -> None:
        """Writes scalars, and sees to it that they are in the file.

        Those that cannot be written, as on a disk that is full, are left out;
        a warning tells of the first.

        Args:
            scalars: Numbers by tag.
            step: Where on the horizontal axis they stand.
        """
        try:
            self._write(scalars, step)
        except tf.errors.OpError as error:
            if not self._has_failed:
                warnings.warn(
                    "Events are written to a file that can be written to. "
                    f"Received: {error.message} Training goes on, and events "
                    "are left out until there is room.",
                    stacklevel=3,
                )
            self._has_failed = True
        else:
            self._has_failed = False

    def _write(self, scalars: Mapping[str, float], step: int) -> None:
        # Keras's TensorBoard turns recording off around steps.
        with self._writer.as_default(), tf.summary.record_if(True):
            for tag, value in scalars.items():
                tf.summary.write(tag, np.float32(value), step, _SCALAR)
        self._writer.flush()

    def close(self) -> None:
        """Ends the file."""
        with contextlib.suppress(tf.errors.OpError):
            self._writer.close()


def opened(
    folder: str | os.PathLike[str], wanted: Literal["auto"] | bool
) -> EventFile | None:
    """Returns a new file of events, if it is wanted and possible.

    Args:
        folder: What TensorBoard is given as `--logdir`.
        wanted: Whether to write events; `"auto"` for where TensorFlow can.

    Returns:
        The file, or `None`.

    Raises:
        RuntimeError: If events are wanted, and TensorFlow cannot write any.
    """
    if not wanted:
        return None
    try:
        return EventFile(folder)
    except Exception as error:
        # What TensorFlow raises where it lacks a package has no public name.
        if wanted == "auto":
            return None
        raise RuntimeError(
            "TensorFlow must be able to write events. Received: "
            f"{type(error).__name__} ({error}). Install the package "
            '`tensorboard`, or pass tensorboard="auto".'
        ) from error
