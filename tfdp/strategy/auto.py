"""The strategy that fits where a program was started."""

import tensorflow as tf

from tfdp.cluster import Cluster
from tfdp.groups import in_groups
from tfdp.step import By
from tfdp.strategy.mirrored import MirroredStrategy
from tfdp.strategy.multi_worker import MultiWorkerMirroredStrategy
from tfdp.transport import Communication, checked_communication


def auto_strategy(
    *,
    devices_per_replica: int | None = None,
    random_by: By = "replica",
    communication: Communication | None = None,
) -> MirroredStrategy | MultiWorkerMirroredStrategy:
    """Returns the strategy that fits where the program was started.

    With several workers in `TF_CONFIG`, or as one of several that a scheduler
    has started (see `Cluster.from_environment`), `MultiWorkerMirroredStrategy`.
    Else `MirroredStrategy` over all GPUs, or over all logical CPUs: one replica
    where there is one.

    Args:
        devices_per_replica: How many devices make up a replica, for models
            that do not fit one; see `tfdp.Stage`. Defaults to `None`, one.
        random_by: What random layers draw numbers for; as in
            `MirroredStrategy`. Defaults to `"replica"`.
        communication: What large gradients travel by between several
            workers; as in `MultiWorkerMirroredStrategy`. Defaults to what the
            variable `TFDP_COMMUNICATION` says; `"auto"` where it is unset.

    Returns:
        A tfdp strategy, also for one device.

    Raises:
        TypeError: If `devices_per_replica` is not an integer.
        ValueError: If `TF_CONFIG` or what a scheduler tells is malformed, or
            `devices_per_replica` does not divide the devices; if `random_by`
            is neither of the two, or `communication` none of the three.

    Example:

    >>> auto_strategy().num_workers
    1
    """
    communication = checked_communication(communication)
    cluster = Cluster.from_environment()
    if cluster and cluster.is_training and cluster.num_workers > 1:
        return MultiWorkerMirroredStrategy(
            devices_per_replica=devices_per_replica,
            random_by=random_by,
            communication=communication,
        )
    devices = tf.config.list_logical_devices("GPU")
    devices = devices or tf.config.list_logical_devices("CPU")
    names = [device.name for device in devices]
    if devices_per_replica is None:
        return MirroredStrategy(names, random_by=random_by)
    groups = in_groups(names, devices_per_replica)
    return MirroredStrategy(groups=groups, random_by=random_by)
