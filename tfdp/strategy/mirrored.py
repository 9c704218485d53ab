"""`tf.distribute.MirroredStrategy`, repaired for Keras 3."""

from collections.abc import Sequence

import tensorflow as tf

from tfdp.strategy.data_parallel_strategy import DataParallelStrategy


class MirroredStrategy(DataParallelStrategy, tf.distribute.MirroredStrategy):
    """`tf.distribute.MirroredStrategy` that trains Keras 3 models exactly.

    Replicas of a model on several devices of one machine. On CPU devices
    gradients are reduced on one of them, which works for any number of
    strategies in a process and inside loops, where TensorFlow's default, a
    ring of collectives, does not.

    Args:
        devices: Names of the devices, such as `["GPU:0", "GPU:1"]`. Defaults
            to all GPUs, or else the first CPU.
        cross_device_ops: A `tf.distribute.CrossDeviceOps`. Defaults to
            TensorFlow's choice on GPUs and to
            `tf.distribute.ReductionToOneDevice()` on CPUs.

    Example:

    >>> strategy = MirroredStrategy(["CPU:0"])
    >>> strategy.num_replicas_in_sync
    1
    """

    def __init__(
        self,
        devices: Sequence[str] | None = None,
        cross_device_ops: tf.distribute.CrossDeviceOps | None = None,
    ) -> None:
        names = devices or tf.config.list_logical_devices("GPU") or ["CPU:0"]
        if cross_device_ops is None and any("CPU" in str(n) for n in names):
            cross_device_ops = tf.distribute.ReductionToOneDevice()
        super().__init__(devices, cross_device_ops)
