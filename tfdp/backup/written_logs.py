"""What Keras's loggers have written of a run, which a resumed one goes on with.

A `CSVLogger` that does not append empties its file as training begins, and one
that does has rows already of epochs that will be done again. A `TensorBoard`
writes each step that it is told of, be it for the second time.
"""

import os
import time
from typing import Any

import keras
import tensorflow as tf


def written(callback: keras.callbacks.Callback) -> dict[str, Any]:
    """Returns what a logger has written, as JSON can hold it.

    Args:
        callback: Any callback.

    Returns:
        What `write_again` and `last_step` take.
    """
    about: dict[str, Any] = {"time": time.time()}
    if _is_in_use(callback) and tf.io.gfile.exists(callback.filename):
        with tf.io.gfile.GFile(callback.filename, "rb") as file:
            about |= {"columns": callback.keys, "rows": file.read().decode()}
    return about


def write_again(
    callback: keras.callbacks.Callback, about: dict[str, Any]
) -> None:
    """Has the file of a `CSVLogger` hold what it held, and nothing else.

    Args:
        callback: Any callback, from `on_train_begin` on.
        about: What `written` has returned.
    """
    if "rows" not in about or not _is_in_use(callback):
        return
    callback.csv_file.close()
    with tf.io.gfile.GFile(callback.filename, "wb") as file:
        file.write(about["rows"].encode())
    appends, callback.append = callback.append, True
    # Without what a subclass does as training begins.
    keras.callbacks.CSVLogger.on_train_begin(callback)
    callback.append, callback.keys = appends, about["columns"]


def last_step(callback: keras.callbacks.Callback, about: dict[str, Any]) -> int:
    """Returns the last step that a `TensorBoard` has written of, and flushed.

    Args:
        callback: Any callback.
        about: What `written` has returned: steps of before do not count, as
            they may be those of another run in the same folder.

    Returns:
        The number of the step; 0 where there is none.
    """
    is_logger = isinstance(callback, keras.callbacks.TensorBoard)
    if not is_logger or callback.update_freq == "epoch":
        return 0
    folder = os.path.join(callback.log_dir, "train")
    files = tf.io.gfile.glob(os.path.join(folder, "*.tfevents.*"))
    steps = [_last_step_in(f, about.get("time", float("inf"))) for f in files]
    return max(steps, default=0)


def _last_step_in(file: str, since: float) -> int:
    last = 0
    try:
        for record in tf.data.TFRecordDataset(file).as_numpy_iterator():
            event = tf.compat.v1.Event.FromString(record)
            if event.wall_time > since:
                last = max(last, event.step)
    except tf.errors.DataLossError:
        # A writer that was killed has not ended its last line.
        pass
    return last


def _is_in_use(callback: keras.callbacks.Callback) -> bool:
    is_logger = isinstance(callback, keras.callbacks.CSVLogger)
    return is_logger and callback.csv_file is not None
