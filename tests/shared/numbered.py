"""Workers that take whole batches by their numbers, in one process.

Their feeds hand out what a true queue says; no server is between.
"""

import threading
import time
import warnings

import keras
import numpy as np
import tensorflow as tf

import tfdp
from tfdp.asynchronous.batch_queue import BatchQueue
from tfdp.cluster import membership
from tfdp.cluster.membership import Membership
from tfdp.strategy.numbered import distribute_numbered, read_all
from tfdp.upstream.keras import keras_data, keras_epochs, keras_fit

SEED = 11


class FakeFeed:
    """What one worker takes of a queue that all share."""

    def __init__(self, queue, worker):
        self.queue = queue
        self.worker = worker
        self.epoch = 0
        self.taken = []
        self.most_taken = 0
        self.given_up = []
        queue.join(worker)

    def take(self):
        number = self.queue.take(self.worker, epoch=self.epoch)
        if number is not None:
            self.taken.append(number)
            self.most_taken = max(self.most_taken, len(self.taken))
        return number

    def end_of_data(self, total):
        self.queue.end_of_data(self.worker, epoch=self.epoch, total=total)
        self.taken = [number for number in self.taken if number < total]

    def give_up(self, number):
        assert self.taken.pop() == number
        self.given_up.append((self.epoch, number))
        self.queue.done(self.worker, epoch=self.epoch, numbers=[number])

    def pop(self):
        """The number of the batch that was trained on."""
        number = self.taken.pop(0)
        self.queue.done(self.worker, epoch=self.epoch, numbers=[number])
        return number


class Strategy(tfdp.MirroredStrategy):
    """Trains on the batches that its feed hands out."""

    def __init__(self, feed, devices=("CPU:0",)):
        super().__init__(list(devices))
        self.feed = feed

    def experimental_distribute_dataset(self, dataset, options=None):
        epochs = keras_epochs.iterator_under_construction(within=1)
        first_epoch = keras_fit.trained_from(epochs)
        if first_epoch is None:
            every = super().experimental_distribute_dataset(dataset, options)
            if epochs is not None:
                read_all(epochs, dataset)
            return every
        return distribute_numbered(
            self,
            dataset,
            epochs=epochs,
            first_epoch=first_epoch,
            feed=self.feed,
            seed=SEED,
        )


def as_worker(monkeypatch, worker, workers):
    """Says which of how many workers this process now is."""
    own = Membership(worker, workers, takes_whole_batches=True)
    monkeypatch.setattr(membership, "_joined", [own])


class Recording(keras.Model):
    """Notes which samples each of its steps was given."""

    def __init__(self):
        super().__init__()
        self.scale = self.add_weight(shape=(), initializer="ones")
        self.batches = []
        self.tested = []

    def call(self, x):
        return self.scale * tf.cast(keras.ops.reshape(x, (-1, 1)), "float32")

    def train_step(self, data):
        x = data[0] if isinstance(data, tuple) else data
        if isinstance(x, tf.SparseTensor):
            x = tf.sparse.to_dense(x)
        noted = tf.numpy_function(self._note, [x], tf.int64)
        with tf.control_dependencies([noted]):
            return {"loss": tf.identity(self.scale)}

    def test_step(self, data):
        x = data[0] if isinstance(data, tuple) else data
        noted = tf.numpy_function(self._note_tested, [x], tf.int64)
        with tf.control_dependencies([noted]):
            return {"loss": tf.identity(self.scale)}

    def _note(self, x):
        self.batches.append(np.ravel(x).astype(int).tolist())
        return np.int64(0)

    def _note_tested(self, x):
        self.tested += np.ravel(x).astype(int).tolist()
        return np.int64(0)


class Epochs(keras.callbacks.Callback):
    """Tells the feed of epochs and steps, and notes which batch was which."""

    def __init__(self, feed, kept=None, *, on_batch=None):
        super().__init__()
        self.feed = feed
        self.kept = {} if kept is None else kept
        self.on_batch = on_batch

    def on_epoch_begin(self, epoch, logs=None):
        self.feed.epoch = epoch
        self.model.batches.clear()

    def on_train_end(self, logs=None):
        fit = keras_fit.fit_under_way()
        keras_data.distributed_dataset(fit).close()

    def on_train_batch_end(self, batch, logs=None):
        replicas = self.model.distribute_strategy.num_replicas_in_sync
        samples = []
        for _ in range(replicas):
            samples += self.model.batches.pop(0)
        number = self.feed.taken[0]
        key = self.feed.epoch, number
        assert key not in self.kept, f"{key} was trained on twice"
        self.kept[key] = sorted(samples)
        self.feed.pop()
        if self.on_batch is not None:
            self.on_batch(self, number)


def model_of(feed, devices=("CPU:0",)):
    with Strategy(feed, devices).scope():
        model = Recording()
        model.compile("sgd", run_eagerly=False)
    return model


def on_one_device(make_data, epochs, **arguments):
    """Which samples plain Keras gives each step, by epoch and number."""
    tf.random.set_seed(SEED)
    keras.utils.set_random_seed(SEED)
    model = Recording()
    model.compile("sgd")
    kept = {}

    class Note(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.epoch, self.number = epoch, 0

        def on_train_batch_end(self, batch, logs=None):
            kept[self.epoch, self.number] = sorted(model.batches.pop(0))
            self.number += 1

    with warnings.catch_warnings():
        # Of data of unknown length Keras always does.
        warnings.filterwarnings("ignore", message="Your input ran out of data")
        model.fit(
            make_data(),
            epochs=epochs,
            verbose=0,
            callbacks=[Note()],
            **arguments,
        )
    return kept


def fit_all(make_data, epochs, workers, monkeypatch, lose=None, **arguments):
    """Which samples workers are given, that train beside each other.

    Args:
        make_data: Makes the data, of each worker.
        epochs: How many.
        workers: How many.
        monkeypatch: That of the test.
        lose: Worker 1 is lost after that many steps; `None` for never.
        arguments: Of `fit`.
    """
    queue = BatchQueue(workers)
    kept, errors, fits, feeds = {}, [], [], []
    for worker in range(workers):
        as_worker(monkeypatch, worker, workers)
        keras.utils.set_random_seed(SEED)
        feed = FakeFeed(queue, worker)
        feeds.append(feed)
        fits.append((model_of(feed), make_data()))
    steps = [0]

    def lose_it(callback, number):
        steps[0] += 1
        if steps[0] == lose:
            # The other one has passed what this one leaves, if there is any.
            is_over = time.monotonic() + 2
            while (0, 4) not in kept and time.monotonic() < is_over:
                time.sleep(0.01)
            queue.lose(1)
            callback.feed.taken.clear()
            raise InterruptedError("lost")

    def run(worker):
        model, data = fits[worker]
        callback = Epochs(
            feeds[worker], kept, on_batch=lose_it if worker == 1 else None
        )
        try:
            model.fit(
                data, epochs=epochs, verbose=0, callbacks=[callback],
                **arguments,
            )  # fmt: skip
        except InterruptedError:
            pass
        except Exception as error:
            errors.append(error)
            queue.lose(worker)

    threads = [
        threading.Thread(target=run, args=[w], daemon=True)
        for w in range(workers)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in threads), "a worker is stuck"
    if errors:
        raise errors[0]
    return kept, feeds
