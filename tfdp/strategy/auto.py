"""The strategy that fits where a program was started."""

import tensorflow as tf

from tfdp.cluster import Cluster
from tfdp.strategy.mirrored import MirroredStrategy
from tfdp.strategy.multi_worker import MultiWorkerMirroredStrategy


def auto_strategy() -> MirroredStrategy | MultiWorkerMirroredStrategy:
    """Returns the strategy that fits where the program was started.

    With several workers in `TF_CONFIG`, or as a task of several under Slurm's
    `srun`, `MultiWorkerMirroredStrategy`. Else
    `MirroredStrategy` over all GPUs, or over all logical CPUs: one replica
    where there is one.

    Returns:
        A tfdp strategy, also for one device.

    Raises:
        ValueError: If `TF_CONFIG` is malformed.

    Example:

    >>> auto_strategy().num_workers
    1
    """
    cluster = Cluster.from_environment()
    if cluster and cluster.is_training and cluster.num_workers > 1:
        return MultiWorkerMirroredStrategy()
    devices = tf.config.list_logical_devices("GPU")
    devices = devices or tf.config.list_logical_devices("CPU")
    return MirroredStrategy([device.name for device in devices])
