"""`tf.distribute.MirroredStrategy`, repaired for Keras 3."""

from collections.abc import Sequence

import tensorflow as tf

from tfdp.groups import beside, checked_groups
from tfdp.step import By, checked_random_by
from tfdp.strategy.data_parallel_strategy import DataParallelStrategy


class MirroredStrategy(DataParallelStrategy, tf.distribute.MirroredStrategy):
    """`tf.distribute.MirroredStrategy` that trains Keras 3 models exactly.

    Replicas of a model on several devices of one machine. On CPU devices
    each gradient is reduced on one of them, which works for any number of
    strategies in a process and inside loops, where TensorFlow's default, a
    ring of collectives, does not.

    Args:
        devices: Names of the devices, such as `["GPU:0", "GPU:1"]`. Defaults
            to all GPUs, or else the first CPU.
        cross_device_ops: A `tf.distribute.CrossDeviceOps`. Defaults to
            TensorFlow's choice on GPUs and to
            `tf.distribute.ReductionToOneDevice()` on CPUs.
        groups: In place of `devices`, for models that do not fit one: for
            each replica its devices, such as `[["GPU:0", "GPU:1"], ["GPU:2",
            "GPU:3"]]`. A `tfdp.Stage` says which layers are on which of them;
            all else is on the first.
        random_by: What random layers, such as dropout, draw numbers for.
            `"replica"` has each replica draw its own, so that they change
            with the number of replicas. `"sample"` makes them a function of
            the seed and of the sample's place among all that were trained on:
            they are then the same for any number of replicas, with or without
            accumulation. See docs/how_to/random_layers.md. Defaults to
            `"replica"`.

    Raises:
        TypeError: If `groups` are not lists of names.
        ValueError: If there are `devices` too; if `groups` are empty, or
            differ in size or kind of device, or a device is there twice or
            does not exist; if `random_by` is something else.

    Example:

    >>> strategy = MirroredStrategy(["CPU:0"])
    >>> strategy.num_replicas_in_sync
    1
    """

    def __init__(
        self,
        devices: Sequence[str] | None = None,
        cross_device_ops: tf.distribute.CrossDeviceOps | None = None,
        *,
        groups: Sequence[Sequence[str]] | None = None,
        random_by: By = "replica",
    ) -> None:
        self.random_by = checked_random_by(random_by)
        checked = None
        if groups is not None:
            if devices is not None:
                raise ValueError(
                    "Devices are named one per replica, as `devices`, or "
                    f"several, as `groups`. Received: devices={devices!r} "
                    f"and groups={groups!r}. Leave one of them out."
                )
            checked = checked_groups(groups)
            devices = [group[0] for group in checked]
        names = devices or tf.config.list_logical_devices("GPU") or ["CPU:0"]
        are_cpus = ["CPU" in str(name) for name in names]
        is_default = cross_device_ops is None
        if is_default and any(are_cpus):
            cross_device_ops = tf.distribute.ReductionToOneDevice()
        super().__init__(devices, cross_device_ops)
        # CPUs of one process read what lies on another.
        self.sums_at: Sequence[str] = ()
        if is_default and all(are_cpus):
            self.sums_at = self.extended.worker_devices
        if checked is not None:
            self.groups = beside(self.extended.worker_devices, checked)
