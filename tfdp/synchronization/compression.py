"""Number formats of fewer bits, for gradients on their way between replicas."""

from typing import Any

import tensorflow as tf

from tfdp.step import Gradient, at_least_float32, on_values

_FORMATS = {"bfloat16": tf.bfloat16, "float16": tf.float16}


def checked_compression(compression: Any) -> str | None:
    """Returns `compression`, after checking it.

    Args:
        compression: `"bfloat16"`, `"float16"` or `None`.

    Raises:
        ValueError: If it is none of these.
    """
    if compression is None or compression in list(_FORMATS):
        return compression
    raise ValueError(
        "`compression` must be 'bfloat16', 'float16' or None. Received: "
        f"compression={compression!r}. Use 'bfloat16', which has the range of "
        "float32, or leave it out."
    )


def check_devices(
    compression: str | None, strategy: tf.distribute.Strategy
) -> None:
    """Checks that the replicas of a strategy can add up this format.

    Args:
        compression: What `checked_compression` has returned.
        strategy: The strategy.

    Raises:
        ValueError: If they cannot: TensorFlow's NCCL of one process takes no
            bfloat16.
    """
    is_one_process = getattr(strategy, "num_workers", 1) == 1
    if (
        compression != "bfloat16"
        or not is_one_process
        or strategy.num_replicas_in_sync == 1
    ):
        return
    gpus = [d for d in strategy.extended.worker_devices if "GPU" in d]
    if len(gpus) > 1:
        raise ValueError(
            "GPUs of one process must exchange gradients in another format "
            f"than bfloat16. Received: compression='bfloat16' on {len(gpus)} "
            "GPUs. Use 'float16', or leave it out: they have no network "
            "between them."
        )


def compressed(
    gradient: Gradient, factor: tf.Tensor, compression: str
) -> Gradient:
    """Multiplies a gradient, and rounds it to fewer bits.

    Args:
        gradient: A gradient in any format.
        factor: Scalar, which brings the gradient into the range of the format.
        compression: `"bfloat16"` or `"float16"`.

    Returns:
        The gradient to send. Slices, which are collected but not added up on
        their way, are bits that look like float16 to TensorFlow: it collects
        no bfloat16.
    """
    rounded = on_values(
        lambda v: tf.cast(v * tf.cast(factor, v.dtype), _FORMATS[compression]),
        at_least_float32(gradient),
    )
    if isinstance(gradient, tf.IndexedSlices):
        return on_values(lambda v: tf.bitcast(v, tf.float16), rounded)
    return rounded


def decompressed(
    gradient: Gradient, dtype: tf.DType, compression: str
) -> Gradient:
    """Returns what `compressed` made, in a format to compute with.

    Args:
        gradient: A compressed gradient, or the sum of several.
        dtype: The format to return.
        compression: What it was compressed to.
    """
    if isinstance(gradient, tf.IndexedSlices):
        gradient = on_values(
            lambda v: tf.bitcast(v, _FORMATS[compression]), gradient
        )
    return on_values(lambda v: tf.cast(v, dtype), gradient)
