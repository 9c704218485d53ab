"""`tf.distribute.MultiWorkerMirroredStrategy`, repaired for Keras 3."""

import functools
import itertools
import random
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfdp.agreement import (
    QUESTIONS,
    StepMessage,
    agreed_seed,
    all_gather,
    check_same_dataset,
    check_same_packs,
    check_same_yields,
    have_same_length,
    warn_of_overlap,
)
from tfdp.board import State, own_board
from tfdp.checks import checked_count, checked_number
from tfdp.cluster import Cluster
from tfdp.cluster.membership import Membership, join
from tfdp.data import Yields, in_one_order, is_marked, yields
from tfdp.groups import beside, of_workers
from tfdp.settings import pack_bytes, start_timeout
from tfdp.step import By, checked_random_by
from tfdp.strategy.carrier import agreed_carrier
from tfdp.strategy.data_parallel_strategy import DataParallelStrategy
from tfdp.strategy.distributed_dataset import CountedDataset
from tfdp.strategy.joining import (
    check_not_started,
    check_synchronous,
    endable_start,
    joined,
    with_replicas,
)
from tfdp.strategy.splitting import distribute_split, split_of
from tfdp.transport import Communication, checked_communication
from tfdp.upstream.keras import keras_epochs
from tfdp.upstream.private import optional
from tfdp.upstream.tensorflow import tf_loops, tf_runtime

_numbers = itertools.count()


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
            packs of as many MiB as the variable `TFDP_PACK_MIB` says, which
            `tfdp bench allreduce` recommends; 2 where it is unset.
        heartbeat_timeout: Seconds without a sign of life after which a worker
            is given up, which ends the others. Defaults to 3.
        devices_per_replica: How many of a worker's devices make up a replica,
            for models that do not fit one; see `tfdp.Stage`. It divides the
            worker's GPUs, which hold as many replicas; without GPUs there is
            one replica, on logical CPUs. Defaults to `None`, one device
            each.
        random_by: What random layers, such as dropout, draw numbers for.
            `"replica"` has each replica draw its own, so that they change
            with the number of replicas. `"sample"` makes them a function of
            the seed and of the sample's place among all that were trained on:
            they are then the same for any number of replicas, with or without
            accumulation. See docs/how_to/random_layers.md. Defaults to
            `"replica"`.
        communication: What large gradients travel by between workers.
            `"tensorflow"` is its collectives; `"gloo"` is faster between
            CPUs, and comes with `pip install "tfdp[gloo]"`; `"auto"` is gloo
            where all workers have it, and their replicas are on CPUs. See
            docs/how_to/speed/communication.md. Defaults to what the variable
            `TFDP_COMMUNICATION` says; `"auto"` where it is unset.

    Attributes:
        cluster: The `Cluster` found in the environment, or `None` where there
            is none, or a `cluster_resolver` was given.
        bytes_per_pack: Size of the packs that gradients travel in; 0 for one
            pack.
        drawn_seed: The global seed, where this worker's program had set none.
        carrier: What large gradients travel by; `None` for TensorFlow's own
            collectives.

    Raises:
        TypeError: If `heartbeat_timeout` is not a number, or
            `devices_per_replica` not an integer.
        ValueError: If the cluster in the environment is malformed,
            `heartbeat_timeout` or `TFDP_PACK_MIB` is not positive, or
            `devices_per_replica` does not divide the worker's GPUs, or is
            larger than the number of its CPUs; or `random_by` or
            `communication` is something else.
        RuntimeError: If TensorFlow was used before, this worker's port cannot
            be listened on, workers pack gradients or send them in different
            ways, gloo was asked for and one has none, or the job was started
            by `tfdp launch --asynchronous`.
        TimeoutError: If another worker is not there within the seconds of the
            variable `TFDP_START_TIMEOUT`; 600 where it is unset.
    """

    def __init__(
        self,
        cluster_resolver: (
            tf.distribute.cluster_resolver.ClusterResolver | None
        ) = None,
        communication_options: (
            tf.distribute.experimental.CommunicationOptions | None
        ) = None,
        *,
        heartbeat_timeout: float = 3.0,
        devices_per_replica: int | None = None,
        random_by: By = "replica",
        communication: Communication | None = None,
    ) -> None:
        communication = checked_communication(communication)
        self.random_by = checked_random_by(random_by)
        heartbeat_timeout = checked_number(
            "heartbeat_timeout", heartbeat_timeout, maximum=1e6
        )
        if devices_per_replica is not None:
            checked_count("devices_per_replica", devices_per_replica)
        self.cluster = None
        if cluster_resolver is None:
            self.cluster = Cluster.from_environment()
        if self.cluster is not None and self.cluster.is_training:
            cluster_resolver = joined(self.cluster, heartbeat_timeout)
        elif cluster_resolver and _num_tasks(cluster_resolver) > 1:
            check_synchronous()
            check_not_started()
        groups = None
        if devices_per_replica is not None:
            replicas, groups = of_workers(devices_per_replica)
            cluster_resolver = with_replicas(cluster_resolver, replicas)
        if communication_options is None:
            communication_options = (
                tf.distribute.experimental.CommunicationOptions(
                    bytes_per_pack=pack_bytes()
                )
            )
        self.bytes_per_pack = communication_options.bytes_per_pack
        with endable_start(self.cluster):
            super().__init__(cluster_resolver, communication_options)
        if groups is not None:
            self.groups = beside(self.extended.worker_devices, groups)
        if self.num_workers > 1:
            # What a worker sends to one whose strategy is not there yet is
            # lost, where that one had another strategy before.
            with own_board().during(State.MEETING, "TensorFlow on all workers"):
                tf_runtime.wait_for_all_tasks(
                    f"tfdp_strategy_{next(_numbers)}", seconds=start_timeout()
                )
        if random_by == "sample" and self.num_workers > 1:
            with tf.device("CPU:0"):
                self.stride = tf.Variable(1, trainable=False, dtype=tf.int64)
        if self.num_workers > 1:
            self.message = StepMessage(self, len(QUESTIONS))
            with optional():
                tf_loops.let_collectives_in()
        join(Membership(self.worker_index, self.num_workers))
        check_same_packs(self, self.bytes_per_pack)
        self.carrier = agreed_carrier(self, communication)
        self._datasets = 0
        has_seed = tf_runtime.global_seed() is not None
        seed = agreed_seed(self)
        self.drawn_seed = None if has_seed else seed
        tf.random.set_seed(seed)

    @property
    def num_workers(self) -> int:
        """Number of processes that train together."""
        return tf_runtime.num_workers(self)

    @property
    def worker_index(self) -> int:
        """Place of this process among the workers; 0 is the chief."""
        return tf_runtime.worker_index(self)

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
                already, does not keep its order, or differs between workers
                in its number of batches or in its shuffling; if `tfdp.shard`
                was applied to it, and micro-batches would not be those of one
                device, or it is for `predict`.
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
        if self.num_workers > 1:
            dataset = in_one_order(dataset)
        self._datasets += 1
        seed = (tf_runtime.global_seed() or 0) + self._datasets
        epochs = keras_epochs.iterator_under_construction(within=1)
        part = split_of(self, dataset, epochs, seed)
        if part is not None:
            heard = self._heard(dataset, epochs) if is_marked(dataset) else []
            return self._comparing(distribute_split(self, part), heard)
        heard = self._heard(dataset, epochs)
        in_order = keras_epochs.py_dataset_in_order(
            epochs, shuffle=random.Random(seed).shuffle
        )
        if in_order is not None:
            dataset = in_order
        check_same_dataset(self, dataset)
        if policy != tf.data.experimental.AutoShardPolicy.HINT:
            by_samples = tf.data.Options()
            by_samples.experimental_distribute.auto_shard_policy = (
                tf.data.experimental.AutoShardPolicy.DATA
            )
            dataset = dataset.with_options(by_samples)
        distributed = super().experimental_distribute_dataset(dataset, options)
        # By samples, TensorFlow makes of each batch a part for every replica.
        if (
            self.num_workers > 1
            and policy != tf.data.experimental.AutoShardPolicy.HINT
            and int(dataset.cardinality()) >= 0
        ):
            distributed.end_together()
        return self._comparing(distributed, heard)

    def _heard(self, dataset: tf.data.Dataset, epochs: Any) -> list[Yields]:
        # Items of a PyDataset may well be others, where they are augmented.
        is_items = keras_epochs.py_dataset(epochs) is not None
        return [] if self.num_workers == 1 or is_items else yields(dataset)

    def _comparing(
        self, dataset: CountedDataset, heard: list[Yields]
    ) -> CountedDataset:
        if heard:
            dataset.compare = functools.partial(check_same_yields, self, heard)
        return dataset

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

        Raises:
            ValueError: If a dataset does not keep its order before `shard`.
        """

        lengths = []

        def of_agreed_length(
            context: tf.distribute.InputContext,
        ) -> tf.data.Dataset:
            dataset = dataset_fn(context)
            if self.num_workers > 1:
                dataset = in_one_order(dataset, has_own_shards=True)
            warn_of_overlap(self, dataset)
            if have_same_length(self, dataset):
                lengths.append(int(dataset.cardinality()))
            else:
                # Of a filtered dataset Keras cannot know the length.
                dataset = dataset.filter(lambda *_: True)
            return dataset

        distributed = super().distribute_datasets_from_function(
            of_agreed_length, options
        )
        replicas_here = self.num_replicas_in_sync // self.num_workers
        if self.num_workers > 1 and any(
            length >= 0 and length % replicas_here == 0 for length in lengths
        ):
            distributed.end_together()
        return distributed

    def barrier(self) -> None:
        """Waits until every worker is here."""
        with own_board().waiting("all workers to come"):
            all_gather(self, [0])


def _num_tasks(
    resolver: tf.distribute.cluster_resolver.ClusterResolver,
) -> int:
    jobs = tf.train.ClusterSpec(resolver.cluster_spec() or {}).as_dict()
    return sum(map(len, jobs.values()))
