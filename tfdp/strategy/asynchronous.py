"""Workers that train without waiting for each other."""

import hashlib
import importlib.util
import secrets
import weakref
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfdp.asynchronous.exchange import Exchange
from tfdp.asynchronous.feed import Feed
from tfdp.asynchronous.serving.server_process import ServerProcess
from tfdp.asynchronous.serving.server_settings import Settings
from tfdp.asynchronous.staleness import Staleness
from tfdp.checks import checked_number
from tfdp.cluster import Cluster, environment, membership
from tfdp.settings import start_timeout
from tfdp.step import waiting_for
from tfdp.strategy.mirrored import MirroredStrategy
from tfdp.strategy.numbered import distribute_numbered, read_all
from tfdp.upstream.keras import keras_epochs, keras_fit
from tfdp.upstream.tensorflow import tf_runtime

_OWN = ("keras", "tfdp", "__main__")
# What an optimizer and its variables are made of.
_SERVED = (
    keras.optimizers.Optimizer,
    keras.optimizers.schedules.LearningRateSchedule,
    keras.constraints.Constraint,
)


class AsynchronousStrategy(MirroredStrategy):
    """Trains on several workers, none of which waits for another's step.

    Each worker has replicas of its own devices, whose steps are one as under
    `MirroredStrategy`. It computes a gradient, sends it to a server, a process
    beside the chief's, and gets the newest weights. A batch of data is one
    worker's: worker w of n takes batches w, w + n, ..., and more where others
    are slow, so that an epoch makes the updates of one device. Nobody's loss
    ends the others: they train on what the lost one would have.

    The staleness of an update is the number of updates that others have made
    since its gradient was begun. No update exceeds `max_staleness`, and none is
    dropped. With 0 workers take turns, which is the training of one device in
    another order of batches; with one less than there are workers, all compute
    at once. It grew from stale synchronous parallel (Ho et al. 2013), which
    bounds how many steps the fastest worker is ahead of the slowest instead.

    Create it before the model. `fit` needs `callbacks.DataParallel()`.

    Args:
        max_staleness: The largest staleness of an update; an integer of at
            least 0. Defaults to 4.
        cluster: The `tfdp.Cluster` of the job. Defaults to that of `TF_CONFIG`
            or Slurm; without either, this process is the only worker.
        devices: Names of this worker's devices, as for `MirroredStrategy`.
        heartbeat_timeout: Seconds without a sign of life after which a worker
            that hangs is lost, and the server for the workers. That one has
            ended is noticed at once. Defaults to 5.

    Attributes:
        max_staleness: As given.
        cluster: The cluster, or `None` for a job of one process.
        exchange: What this worker says to the server, from the begin of the
            first `fit` on; `None` before.
        feed: The batches that this worker takes.
        drawn_seed: The global seed, where the program had set none.

    Raises:
        TypeError: If `heartbeat_timeout` is not a number.
        ValueError: If `max_staleness` is no integer of at least 0, the cluster
            is malformed, `heartbeat_timeout` is not positive, or several
            workers have no secret in common.

    Example:

    >>> strategy = tfdp.AsynchronousStrategy(max_staleness=4)
    >>> strategy.max_staleness, strategy.is_chief
    (4, True)
    """

    def __init__(
        self,
        max_staleness: int = 4,
        *,
        cluster: Cluster | None = None,
        devices: Sequence[str] | None = None,
        heartbeat_timeout: float = 5.0,
    ) -> None:
        self.max_staleness = Staleness(max_staleness).bound
        self._heartbeat_timeout = checked_number(
            "heartbeat_timeout", heartbeat_timeout, maximum=1e6
        )
        if cluster is None:
            cluster = Cluster.from_environment()
        if cluster is not None and not cluster.is_training:
            cluster = None
        self.cluster = cluster
        self._secret = _secret(cluster)
        super().__init__(devices)
        membership.join(
            membership.Membership(
                self.worker_index, self.size, takes_whole_batches=True
            )
        )
        self._datasets = 0
        self.exchange: Exchange | None = None
        self.feed = Feed()
        # The edges of the fit at hand, which know how to leave it.
        self.under_way: Any = None
        self._server = self._started() if self.is_chief else None
        if self._server is not None:
            weakref.finalize(self, self._server.close)
        self.drawn_seed = None
        if tf_runtime.global_seed() is None:
            # The same everywhere, so that all shuffle alike.
            digest = hashlib.sha256(self._secret.encode()).digest()
            self.drawn_seed = int.from_bytes(digest[:3], "little")
            tf.random.set_seed(self.drawn_seed)

    @property
    def size(self) -> int:
        """Number of workers that the job was started with."""
        return 1 if self.cluster is None else self.cluster.num_workers

    @property
    def worker_index(self) -> int:
        """Place of this process among the workers; 0 is the chief."""
        return 0 if self.cluster is None else self.cluster.index

    def connect(self) -> Exchange:
        """Returns what this worker says to the server, which it waits for.

        Raises:
            RuntimeError: If there is none, or it has ended.
            ValueError: If what answers knows another secret.
        """
        if self.exchange is None:
            self.exchange = Exchange(
                self._address(),
                self._secret,
                worker=self.worker_index,
                heartbeat_timeout=self._heartbeat_timeout,
                start_timeout=start_timeout(),
            )
            weakref.finalize(self, self.exchange.close)
        return self.exchange

    def experimental_distribute_dataset(
        self,
        dataset: tf.data.Dataset,
        options: tf.distribute.InputOptions | None = None,
    ) -> tf.distribute.DistributedDataset:
        """Splits batches over the replicas of this worker.

        Of what `fit` trains on, this worker takes batches of its own; all of
        what is evaluated or predicted.

        Args:
            dataset: Dataset whose batches are micro-batches, which the replicas
                of a worker see in one step; the same on all workers.
            options: `tf.distribute.InputOptions`.

        Returns:
            The distributed dataset.

        Raises:
            ValueError: If the dataset has no batches, or they would not be
                those of one device, each once.
        """
        epochs = keras_epochs.iterator_under_construction(within=1)
        first_epoch = keras_fit.trained_from(epochs)
        if first_epoch is None:
            every = super().experimental_distribute_dataset(dataset, options)
            if epochs is not None:
                read_all(epochs, dataset)
            return every
        self._datasets += 1
        return distribute_numbered(
            self,
            dataset,
            epochs=epochs,
            first_epoch=first_epoch,
            feed=self.feed,
            seed=(tf_runtime.global_seed() or 0) + self._datasets,
        )

    def run(
        self,
        fn: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        options: tf.distribute.RunOptions | None = None,
    ) -> Any:
        """Runs `fn` on the replicas of this worker.

        Before a step of training it has the newest weights.

        Args:
            fn: Function, or `tf.function`, to run on every replica.
            args: Positional arguments, distributed values among them.
            kwargs: Keyword arguments, likewise.
            options: `tf.distribute.RunOptions`.

        Returns:
            What `fn` returned, as distributed values.
        """
        model = keras_fit.model_of_step(fn, "train_step")
        optimizer = None if model is None else model.optimizer
        way = getattr(optimizer, "synchronized_by", None)
        if way is None or not hasattr(way, "begin_step"):
            return super().run(fn, args, kwargs, options)
        # What each replica has of them is no tensor itself.
        given = tf.nest.flatten((args, kwargs))
        with waiting_for(list(map(self.experimental_local_results, given))):
            way.begin_step()
        try:
            return super().run(fn, args, kwargs, options)
        finally:
            way.end_step()

    def _address(self) -> str:
        if self._server is None and self.cluster is not None:
            return self.cluster.workers[0]
        return self._server.address()  # type: ignore[union-attr]

    def _started(self) -> ServerProcess:
        address = self.cluster.address if self.cluster else "127.0.0.1:0"
        return ServerProcess(
            Settings(
                address,
                self._secret,
                self.size,
                self.max_staleness,
                self._heartbeat_timeout,
                start_timeout(),
                modules=_modules(),
            )
        )


def _secret(cluster: Cluster | None) -> str:
    given = environment.job_secret()
    if given or cluster is None or cluster.num_workers == 1:
        return given or secrets.token_hex()
    raise ValueError(
        "Workers that train asynchronously know a secret, by which the server "
        f"tells them from strangers. Received: {cluster.num_workers} workers "
        "without TFDP_JOB_SECRET in the environment. Start them by `tfdp "
        "launch --asynchronous`, or set it to the same random text on all of "
        "them."
    )


def _modules() -> tuple[str, ...]:
    """Modules that have registered classes with Keras, which the server needs.

    A class that a program itself defines it cannot import.
    """
    names = {
        each.__module__
        for each in keras.saving.get_custom_objects().values()
        if isinstance(each, type) and issubclass(each, _SERVED)
    }
    return tuple(
        sorted(
            name
            for name in names
            if name.split(".")[0] not in _OWN and _can_be_imported(name)
        )
    )


def _can_be_imported(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False
