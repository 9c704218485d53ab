"""Rows B4x: what feeds a `fit`, and what watches it."""

import contextlib
import pathlib
import tempfile

import keras
import numpy as np
import tensorflow as tf
from sides import BATCH, arrays, batches, deviation, network, sgd

import tfdp

SAMPLES, EPOCHS = 40, 2


class Seen(keras.metrics.Metric):
    """How often each sample was seen in an epoch."""

    def __init__(self):
        super().__init__(name="seen")
        self.count = self.add_weight(shape=(SAMPLES,), initializer="zeros")

    def update_state(self, y, y_pred, sample_weight=None):
        """Adds labels, each of which is 1 at its sample."""
        self.count.assign_add(keras.ops.sum(y, 0))

    def result(self):
        """Returns the counts."""
        return self.count + 0


class Rows(keras.utils.PyDataset):
    """Batches of 8, in another order each epoch, from two threads."""

    def __init__(self, **options):
        super().__init__(**options)
        self.order = list(range(SAMPLES // 8))
        self.random = np.random.default_rng(1)

    def __len__(self):
        return SAMPLES // 8

    def __getitem__(self, index):
        first = 8 * self.order[index]
        labels = np.eye(SAMPLES, dtype="float32")[first : first + 8]
        return np.ones((8, 3), "float32"), labels

    def on_epoch_end(self):
        """Draws the next order."""
        self.random.shuffle(self.order)


def _not_seen_once(side, data, **fit):
    """Returns how many sample-epochs are missing or double."""
    with side.strategy().scope():
        # Not built: Keras looks at a batch first.
        model = keras.Sequential([keras.layers.Dense(SAMPLES)])
        model.compile(side.optimizer(sgd), "mse", metrics=[Seen()])
    history = model.fit(
        data, epochs=EPOCHS, verbose=0, callbacks=side.callbacks, **fit
    ).history
    return int((np.array(history["seen"]) != 1).sum())


def b40(side):
    """PyDataset of 2 threads: of 80 times a sample, not seen exactly once.

    Test: parity/test_data_sources.py::
    test_batches_come_in_the_order_of_one_device
    """
    return _not_seen_once(side, Rows(workers=2))


def b40_generator(side):
    """A generator over 2 epochs: of 80 times a sample, not seen exactly once.

    Test: parity/test_data_sources.py::
    test_batches_of_epochs_in_steps_are_each_seen_once
    """
    rows = Rows()
    endless = (rows[k] for _ in range(EPOCHS) for k in range(len(rows)))
    return _not_seen_once(side, endless, steps_per_epoch=len(rows))


def _sparse(batch, samples):
    x, y = arrays(samples)
    x[x < 0] = 0
    data = tf.data.Dataset.from_tensor_slices((tf.sparse.from_dense(x), y))
    return data.batch(batch)


def _of_sparse():
    keras.utils.set_random_seed(1)
    x = keras.Input((8,), sparse=True)
    return keras.Model(x, keras.layers.Dense(1)(keras.layers.Dense(4)(x)))


def b41(side):
    """Sparse samples, and a last batch of 1.

    Test: parity/test_sparse_data.py::
    test_replicas_without_a_sample_change_nothing
    """
    return side.deviation(
        sgd, make=_of_sparse, data=lambda batch: _sparse(batch, 2 * BATCH + 1)
    )


class Thaw(keras.callbacks.Callback):
    """Trains the first layer too, from the second epoch on."""

    def __init__(self, make_optimizer):
        super().__init__()
        self.make_optimizer = make_optimizer

    def on_epoch_begin(self, epoch, logs=None):
        """Compiles the model again."""
        if epoch != 1:
            return
        scope = getattr(self.model, "_distribute_strategy", None)
        with scope.scope() if scope else contextlib.nullcontext():
            self.model.layers[0].trainable = True
            self.model.compile(self.make_optimizer(), "mse")
            self.model.make_train_function()


def _frozen():
    model = network()
    model.layers[0].trainable = False
    return model


def b42(side):
    """A callback that thaws a layer and compiles again, accumulating.

    Test: callbacks/test_compiled_again.py::
    test_the_new_optimizer_is_kept_as_the_old_one_was
    """
    oracle = _frozen()
    oracle.compile(sgd(), "mse")
    oracle.fit(batches(), epochs=2, verbose=0, callbacks=[Thaw(sgd)])

    def optimizer():
        return side.optimizer(sgd, 2)

    model = side.trained(
        sgd,
        batches(BATCH // 2),
        steps=2,
        make=_frozen,
        callbacks=[Thaw(optimizer)],
        eager=True,
    )
    return deviation(model, oracle)


class Watched(keras.callbacks.Callback):
    """A figure that is best in epoch 2; ends the first run in epoch 4."""

    def __init__(self, dies):
        super().__init__()
        self.dies = dies

    def on_epoch_end(self, epoch, logs=None):
        """Logs the figure."""
        logs["watched"] = float(abs(epoch - 2))

    def on_epoch_begin(self, epoch, logs=None):
        """Stands for the end of the process."""
        if self.dies and epoch == 4:
            raise KeyboardInterrupt


def _resumed(side):
    """Returns what three callbacks come to in a run of two parts."""
    with tempfile.TemporaryDirectory() as folder:
        return _in_two_parts(side, pathlib.Path(folder))


def _in_two_parts(side, folder):
    backup = keras.callbacks.BackupAndRestore(str(folder / "backup"))
    for dies in (True, False):
        if side.is_tfdp:
            backup = tfdp.callbacks.BackupAndRestore(folder / "backup")
        saved = keras.callbacks.ModelCheckpoint(
            str(folder / "best.weights.h5"),
            monitor="watched",
            mode="min",
            save_best_only=True,
            save_weights_only=True,
        )
        stop = keras.callbacks.EarlyStopping("watched", mode="min", patience=4)
        rows = keras.callbacks.CSVLogger(str(folder / "log.csv"))
        more = [backup, Watched(dies), saved, stop, rows]
        with contextlib.suppress(KeyboardInterrupt):
            side.trained(sgd, batches(), epochs=12, callbacks=more)
        if dies:
            before = (folder / "best.weights.h5").stat().st_mtime_ns
    is_same = (folder / "best.weights.h5").stat().st_mtime_ns == before
    return stop.stopped_epoch, is_same, (folder / "log.csv").read_text()


def b43(side):
    """Killed in epoch 4, resumed: the epoch an EarlyStopping ends, due in 6.

    Test: callbacks/test_callbacks_resumed.py::
    test_patience_and_what_was_best_are_those_of_one_run
    """
    return _resumed(side)[0]


def b43_checkpoint(side):
    """There, whether ModelCheckpoint has kept what was best before.

    Test: callbacks/test_callbacks_resumed.py::
    test_patience_and_what_was_best_are_those_of_one_run
    """
    return str(_resumed(side)[1])


def b43_rows(side):
    """There, rows of CSVLogger, due are those of 7 epochs.

    Test: callbacks/test_logs_resumed.py::test_each_epoch_has_one_row
    """
    return len(_resumed(side)[2].splitlines()) - 1
