"""TensorFlow's data-parallel strategies, repaired for Keras 3.

Both classes are their TensorFlow namesakes to everything that asks, and
override only public methods, only where upstream fails.
"""

from collections.abc import Callable, Sequence

import tensorflow as tf

from tfdp import _keras, _tensorflow
from tfdp.agreement import (
    agreed_seed,
    all_gather,
    check_same_dataset,
    have_same_length,
)
from tfdp.cluster import Cluster
from tfdp.data_parallel_strategy import DataParallelStrategy

# Several packs of a large model's gradients travel at once; a small model's
# gradients fit in one.
_BYTES_PER_PACK = 2 * 1024 * 1024


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


class MultiWorkerMirroredStrategy(
    DataParallelStrategy, tf.distribute.MultiWorkerMirroredStrategy
):
    """`tf.distribute.MultiWorkerMirroredStrategy` that runs Keras 3's `fit`.

    Replicas of a model on the devices of several worker processes. Create it
    before anything else of TensorFlow, on every worker.

    Every worker passes the same dataset to `fit`; each batch is split by
    samples, whatever the sharding policy of the dataset. Workers agree on one
    seed for shuffling, so that each sample is seen once per epoch.

    Args:
        cluster_resolver: A `tf.distribute.cluster_resolver.ClusterResolver`.
            Defaults to `TF_CONFIG`.
        communication_options: A
            `tf.distribute.experimental.CommunicationOptions`. Defaults to
            packs of 2 MiB.

    Raises:
        ValueError: If `TF_CONFIG` is malformed.
        RuntimeError: If this worker's port cannot be listened on.
    """

    def __init__(
        self,
        cluster_resolver: (
            tf.distribute.cluster_resolver.ClusterResolver | None
        ) = None,
        communication_options: (
            tf.distribute.experimental.CommunicationOptions | None
        ) = None,
    ) -> None:
        if cluster_resolver is None:
            cluster = Cluster.from_environment()
            if cluster is not None:
                cluster.check_port()
        if communication_options is None:
            communication_options = (
                tf.distribute.experimental.CommunicationOptions(
                    bytes_per_pack=_BYTES_PER_PACK
                )
            )
        super().__init__(cluster_resolver, communication_options)
        self._datasets = 0
        tf.random.set_seed(agreed_seed(self))

    @property
    def num_workers(self) -> int:
        """Number of processes that train together."""
        return _tensorflow.num_workers(self)

    @property
    def worker_index(self) -> int:
        """Place of this process among the workers; 0 is the chief."""
        return _tensorflow.worker_index(self)

    def experimental_distribute_dataset(
        self,
        dataset: tf.data.Dataset,
        options: tf.distribute.InputOptions | None = None,
    ) -> tf.distribute.DistributedDataset:
        """Splits each batch of `dataset` over the replicas of all workers.

        A collective: every worker must make the same call.

        Args:
            dataset: Dataset whose batches are micro-batches: the samples that
                all replicas, on all workers, see in one step. Every worker is
                given the same dataset.
            options: `tf.distribute.InputOptions`.

        Returns:
            The distributed dataset.

        Raises:
            ValueError: If the dataset has no batches, is marked as sharded
                already, or differs between workers in its number of batches
                or in its shuffling.
        """
        policy = dataset.options().experimental_distribute.auto_shard_policy
        if policy == tf.data.experimental.AutoShardPolicy.OFF:
            raise ValueError(
                "A dataset given to several workers must be sharded by the "
                "strategy. Received: a dataset with AutoShardPolicy.OFF, "
                "which gives every worker all samples. Remove that option, "
                "or, where each worker makes its own shard, use "
                "`strategy.distribute_datasets_from_function`."
            )
        self._datasets += 1
        arrays = _keras.reshuffled_arrays(
            seed=(_tensorflow.global_seed() or 0) + self._datasets
        )
        if arrays is not None:
            dataset = arrays
        check_same_dataset(self, dataset)
        if policy != tf.data.experimental.AutoShardPolicy.HINT:
            by_samples = tf.data.Options()
            by_samples.experimental_distribute.auto_shard_policy = (
                tf.data.experimental.AutoShardPolicy.DATA
            )
            dataset = dataset.with_options(by_samples)
        return super().experimental_distribute_dataset(dataset, options)

    def distribute_datasets_from_function(
        self,
        dataset_fn: Callable[[tf.distribute.InputContext], tf.data.Dataset],
        options: tf.distribute.InputOptions | None = None,
    ) -> tf.distribute.DistributedDataset:
        """Distributes datasets that each worker makes for itself.

        A collective: every worker must make the same call. Workers may have
        different numbers of batches: an epoch lasts until all are used up.

        Args:
            dataset_fn: Returns this worker's dataset, batched per replica,
                given a `tf.distribute.InputContext`.
            options: `tf.distribute.InputOptions`.

        Returns:
            The distributed dataset.
        """

        def of_agreed_length(
            context: tf.distribute.InputContext,
        ) -> tf.data.Dataset:
            dataset = dataset_fn(context)
            if have_same_length(self, dataset):
                return dataset
            # Of a filtered dataset Keras cannot know the length.
            return dataset.filter(lambda *_: True)

        return super().distribute_datasets_from_function(
            of_agreed_length, options
        )

    def barrier(self) -> None:
        """Waits until every worker is here."""
        all_gather(self, [0])


def auto_strategy() -> MirroredStrategy | MultiWorkerMirroredStrategy:
    """Returns the strategy that fits where the program was started.

    With several workers in `TF_CONFIG`, `MultiWorkerMirroredStrategy`. Else
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
