"""Whatever feeds a `fit`, it gives the batches that one device is given.

Keras looks at a batch before the first step under a strategy, and begins the
data anew at the end of each epoch; both take batches from Python code that
gives each of them once. The oracle is plain Keras.
"""

import contextlib
import gc
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfdp

# Keras's own, of data whose length it cannot know, on one device too.
pytestmark = pytest.mark.filterwarnings("ignore:Your input ran out of data")

SAMPLES, BATCH, BATCHES = 70, 10, 7
# Only the sum over a batch reaches the weights, so that they tell the order.
X = np.random.default_rng(0).normal(size=(SAMPLES, 3)).astype("float32")
Y = np.eye(SAMPLES, dtype="float32")


class Rows(keras.utils.PyDataset):
    """Reorders its batches between epochs, and counts what Keras tells it."""

    def __init__(self, reorders=False, length=BATCHES, **options):
        super().__init__(**options)
        self.length = length
        self.order = list(range(BATCHES))
        self.random = np.random.default_rng(5) if reorders else None
        self.told = []

    @property
    def num_batches(self):
        return self.length

    def __getitem__(self, index):
        k = self.order[index % BATCHES] * BATCH
        return X[k : k + BATCH].copy(), Y[k : k + BATCH].copy()

    def on_epoch_begin(self):
        self.told.append("begin")

    def on_epoch_end(self):
        self.told.append("end")
        if self.random is not None:
            self.random.shuffle(self.order)


def generator(times=1):
    for _ in range(times):
        yield from (Rows()[k] for k in range(BATCHES))


def signature():
    return (
        tf.TensorSpec([None, 3], tf.float32),
        tf.TensorSpec([None, SAMPLES], tf.float32),
    )


def restarted():
    """A dataset whose Python code draws another order each time it is run."""
    random = np.random.default_rng(3)

    def batches():
        yield from (Rows()[k] for k in random.permutation(BATCHES))

    data = tf.data.Dataset.from_generator(batches, output_signature=signature())
    # Where the length is known Keras begins anew at the end of an epoch.
    return data.apply(tf.data.experimental.assert_cardinality(BATCHES))


def shared():
    """A dataset of Python code that gives each batch once."""
    batches = generator(3)
    return tf.data.Dataset.from_generator(
        lambda: batches, output_signature=signature()
    )


def shuffled(seed=1):
    data = tf.data.Dataset.from_tensor_slices((X, Y))
    return data.shuffle(SAMPLES, seed=seed).batch(BATCH)


SOURCES = {
    "PyDataset": Rows,
    "PyDataset that reorders": lambda: Rows(reorders=True),
    "PyDataset of 2 workers": lambda: Rows(workers=2),
    "PyDataset of 3 workers that reorders": lambda: Rows(True, workers=3),
    "PyDataset of a process": lambda: Rows(
        workers=1, use_multiprocessing=True, reorders=True
    ),
    "restarted code": restarted,
    "Dataset that shuffles": shuffled,
    "arrays": lambda: (X, Y),
}
IN_STEPS = {
    "generator": lambda: generator(3),
    "shared generator": shared,
    "endless PyDataset": lambda: Rows(length=None),
    "endless PyDataset of 2 workers": lambda: Rows(length=None, workers=2),
    "repeated Dataset": lambda: shuffled().repeat(),
}


class Seen(keras.metrics.Metric):
    """How often each sample was seen."""

    def __init__(self):
        super().__init__(name="seen")
        self.count = self.add_weight(shape=(SAMPLES,), initializer="zeros")

    def update_state(self, y, y_pred, sample_weight=None):
        self.count.assign_add(keras.ops.sum(y, 0))

    def result(self):
        return self.count + 0


class Note(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.seen, self.validated = [], []

    def on_test_end(self, logs=None):
        self.validated.append(np.array(logs["seen"]))

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append(np.array(logs["seen"]))


def model_in(scope, distributed):
    keras.utils.set_random_seed(7)
    with scope:
        # Not built: what Keras looks at before the first step, it needs.
        model = keras.Sequential([keras.layers.Dense(SAMPLES, "tanh")])
        optimizer = keras.optimizers.SGD(0.5, momentum=0.9)
        if distributed:
            optimizer = tfdp.DistributedOptimizer(optimizer)
        model.compile(optimizer, "mse", metrics=[Seen()])
    return model


def trained(make, strategy=None, **fit):
    distributed = strategy is not None
    scope = strategy.scope() if distributed else contextlib.nullcontext()
    model = model_in(scope, distributed)
    data, note = make(), Note()
    data = data if isinstance(data, tuple) else (data,)
    callbacks = [tfdp.callbacks.DataParallel()] if distributed else []
    fit = {"epochs": 3, "verbose": 0, **fit}
    if len(data) == 2:
        fit |= {"batch_size": BATCH, "shuffle": False}
    model.fit(*data, callbacks=[*callbacks, note], **fit)
    return model.get_weights(), np.array(note.seen), data[0]


def check_equal(make, strategy, **fit):
    expected, seen_by_one, _ = trained(make, **fit)
    actual, seen, data = trained(make, strategy, **fit)
    np.testing.assert_array_equal(seen, seen_by_one)
    for ours, theirs in zip(actual, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-6)
    return seen, data


@pytest.mark.sampled
@pytest.mark.parametrize("source", SOURCES)
def test_batches_come_in_the_order_of_one_device(strategy, source):
    seen, _ = check_equal(SOURCES[source], strategy)
    assert (seen == 1).all()


@pytest.mark.sampled
@pytest.mark.parametrize("source", IN_STEPS)
def test_batches_of_epochs_in_steps_are_each_seen_once(strategy, source):
    seen, _ = check_equal(IN_STEPS[source], strategy, steps_per_epoch=BATCHES)
    assert (seen == 1).all()


@pytest.mark.sampled
@pytest.mark.parametrize("source", IN_STEPS)
def test_steps_that_do_not_fill_a_pass_go_on_in_it(two_replicas, source):
    check_equal(IN_STEPS[source], two_replicas, steps_per_epoch=4)


@pytest.mark.parametrize("workers", [1, 2])
def test_steps_of_a_finite_pydataset_are_each_seen_once(strategy, workers):
    make = lambda: Rows(workers=workers)  # noqa: E731
    fit = {"steps_per_epoch": BATCHES, "shuffle": False}
    seen, _ = check_equal(make, strategy, **fit)
    assert (seen == 1).all()


@pytest.mark.sampled
@pytest.mark.parametrize("workers", [1, 2])
def test_a_pydataset_is_told_of_epochs_as_often_as_on_one_device(
    two_replicas, workers
):
    make = lambda: Rows(workers=workers)  # noqa: E731
    *_, told_by_one = trained(make)
    *_, told = trained(make, two_replicas)
    assert told.told == told_by_one.told


def test_a_fit_that_begins_later_takes_the_first_batches(two_replicas):
    fit = {"epochs": 5, "initial_epoch": 3, "steps_per_epoch": 3}
    check_equal(generator, two_replicas, **fit)


def test_what_keras_calls_executions_takes_each_batch_once(two_replicas):
    with two_replicas.scope():
        model = model_in(contextlib.nullcontext(), True)
        model.compile(
            tfdp.DistributedOptimizer(keras.optimizers.SGD(0.1)),
            "mse",
            metrics=[Seen()],
            steps_per_execution=2,
        )
    note = Note()
    model.fit(
        Rows(workers=2),
        epochs=2,
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel(), note],
    )
    assert (np.array(note.seen) == 1).all()


@pytest.mark.sampled
@pytest.mark.parametrize(
    "source",
    ["PyDataset of 2 workers", "PyDataset of a process", "restarted code"],
)
def test_each_validation_sees_each_sample_once(strategy, source):
    model = model_in(strategy.scope(), True)
    note = Note()
    model.fit(
        X,
        Y,
        batch_size=BATCH,
        epochs=3,
        validation_data=SOURCES[source](),
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel(), note],
    )
    assert len(note.validated) == 3
    assert (np.array(note.validated) == 1).all()


@pytest.mark.parametrize(
    "make",
    [generator, lambda: Rows(workers=2), lambda: Rows(workers=2, length=None)],
    ids=["generator", "PyDataset", "endless"],
)
def test_evaluate_and_predict_see_each_sample_once(strategy, make):
    model = model_in(strategy.scope(), True)
    steps = BATCHES if getattr(make(), "length", 0) is None else None
    logs = model.evaluate(make(), steps=steps, verbose=0, return_dict=True)
    assert (np.array(logs["seen"]) == 1).all()
    predicted = model.predict(make(), steps=steps, verbose=0)
    np.testing.assert_allclose(predicted, np.asarray(model(X)), atol=1e-6)


@pytest.mark.long
@pytest.mark.sampled
@pytest.mark.parametrize("steps", [None, 4])
def test_the_workers_of_a_pydataset_end_with_the_fit(two_replicas, steps):
    def at_work():
        gc.collect()
        return {t.name for t in threading.enumerate() if "Worker_" in t.name}

    before = at_work()
    trained(lambda: Rows(workers=2), two_replicas, steps_per_epoch=steps)
    assert not at_work() - before


def test_an_error_of_a_pydataset_of_workers_arrives(two_replicas):
    class Broken(Rows):
        def __getitem__(self, index):
            if index == 5:
                raise OSError("no such file: rows-5")
            return super().__getitem__(index)

    with pytest.raises(Exception, match="no such file: rows-5"):
        trained(lambda: Broken(workers=2), two_replicas)
