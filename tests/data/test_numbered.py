"""Workers that take whole batches have those of one device, each once."""

import itertools
import subprocess
import sys

import keras
import numbered
import numpy as np
import pytest
import tensorflow as tf
from places import SHARED

import tfdp
from tfdp.data.numbered.stream import Stream
from tfdp.upstream.keras import keras_fit
from tfdp.upstream.tensorflow import tf_datasets

COUNT = 23


def samples(count=COUNT):
    return tf.data.Dataset.range(count)


def shuffled():
    return samples().shuffle(10, seed=3)


def files():
    """Files that are shuffled, and then their samples."""
    return (
        tf.data.Dataset.range(4)
        .shuffle(4, seed=2)
        .interleave(lambda file: tf.data.Dataset.range(6 * file, 6 * file + 6))
        .shuffle(5, seed=4)
    )


class Items(keras.utils.PyDataset):
    def __init__(self, count=6, **arguments):
        super().__init__(**arguments)
        self.count = count
        self.computed = []

    def __len__(self):
        return self.count

    def __getitem__(self, place):
        self.computed.append(place)
        return (np.arange(4 * place, 4 * place + 4),)


DATA = {
    "in order": lambda: samples().batch(4),
    "shuffled": lambda: shuffled().batch(4),
    "after batch": lambda: samples().batch(4).shuffle(10, seed=3),
    "files": lambda: files().batch(4),
    "filtered": lambda: shuffled().filter(lambda x: x % 2 == 0).batch(3),
    "fewer than workers": lambda: samples(5).batch(4),
    "one batch": lambda: samples(5).batch(10),
    "mapped": lambda: shuffled().map(lambda x: x + 1).batch(4).prefetch(2),
    "mark": lambda: shuffled().apply(tfdp.shard).batch(4),
    "mark mapped": lambda: (
        shuffled()
        .apply(tfdp.shard)
        .map(lambda x: x + 1, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(4)
        .prefetch(tf.data.AUTOTUNE)
    ),
    "mark after filter": lambda: (
        shuffled().filter(lambda x: x % 2 == 0).apply(tfdp.shard).batch(3)
    ),
    "mark of files": lambda: files().apply(tfdp.shard).batch(4),
    "mark drops": lambda: (
        shuffled().apply(tfdp.shard).batch(4, drop_remainder=True)
    ),
    "items": Items,
    "array": lambda: np.arange(COUNT),
}
ARGUMENTS = {"array": {"batch_size": 4}}
PLAIN = {"items", "array"}


def arguments(kind):
    given = dict(ARGUMENTS.get(kind, {}))
    return given | ({"shuffle": False} if kind in PLAIN else {})


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("kind", DATA)
def test_each_batch_is_that_of_one_device(kind, workers, monkeypatch):
    expected = numbered.on_one_device(DATA[kind], 3, **arguments(kind))
    kept, _ = numbered.fit_all(
        DATA[kind], 3, workers, monkeypatch, **arguments(kind)
    )
    assert kept == expected


# What follows the mark may wait while the state would be kept.
NESTED = {"mark of files"}


@pytest.mark.sampled
@pytest.mark.parametrize("kind", sorted(DATA.keys() - NESTED))
def test_what_a_lost_worker_leaves_is_read_by_others(kind, monkeypatch):
    expected = numbered.on_one_device(DATA[kind], 3, **arguments(kind))
    kept, feeds = numbered.fit_all(
        DATA[kind], 3, 2, monkeypatch, lose=1, **arguments(kind)
    )
    assert kept == expected
    assert not feeds[0].given_up


@pytest.mark.parametrize("kind", sorted(NESTED))
def test_what_cannot_be_read_again_is_told(kind, monkeypatch):
    with pytest.warns(UserWarning, match="Received: batches .* of epoch"):
        kept, feeds = numbered.fit_all(
            DATA[kind], 2, 2, monkeypatch, lose=1
        )  # fmt: skip
    expected = numbered.on_one_device(DATA[kind], 2)
    assert feeds[0].given_up
    assert kept.items() <= expected.items()
    assert kept.keys() | set(feeds[0].given_up) == expected.keys()


def test_a_generator_is_read_once(monkeypatch):
    def data():
        return ((np.arange(4 * i, 4 * i + 4),) for i in range(6))

    expected = numbered.on_one_device(data, 1)
    kept, _ = numbered.fit_all(data, 1, 2, monkeypatch)
    assert kept == expected
    with pytest.warns(UserWarning, match="nobody has trained on them"):
        kept, feeds = numbered.fit_all(data, 1, 2, monkeypatch, lose=1)
    assert kept.keys() | set(feeds[0].given_up) == expected.keys()


@pytest.mark.sampled
@pytest.mark.parametrize("lose", [None, 1])
@pytest.mark.parametrize("kind", ["array", "items"])
def test_shuffled_by_keras_each_worker_has_the_order_of_all(
    kind, lose, monkeypatch
):
    given = ARGUMENTS.get(kind, {})
    alone, _ = numbered.fit_all(DATA[kind], 3, 1, monkeypatch, **given)
    kept, _ = numbered.fit_all(
        DATA[kind], 3, 3, monkeypatch, lose=lose, **given
    )
    assert kept == alone
    orders = [[kept[e, i] for i in range(6)] for e in range(3)]
    whole = list(range(24 if kind == "items" else COUNT))
    assert all(sorted(sum(order, [])) == whole for order in orders)
    assert orders[0] != orders[1] != orders[2] != orders[0]


def test_a_worker_computes_its_own_items_alone(monkeypatch):
    made = []

    def data():
        made.append(Items(6))
        return made[-1]

    numbered.fit_all(data, 1, 2, monkeypatch, shuffle=False)
    # Keras has looked at the first two. Who is ahead takes some of the other's.
    computed = [*made[0].computed[2:], *made[1].computed[2:]]
    assert sorted(computed) == list(range(6))


class AllAreWanted:
    """Blocks that hold nobody back."""

    def __getattr__(self, name):
        return lambda *given: None


def test_an_epoch_may_be_left_while_a_graph_is_traced():
    """As where what holds it is collected as garbage then."""
    dataset = tf.data.Dataset.range(500)
    stream = Stream(dataset, None, lambda epoch: epoch, blocks=AllAreWanted())
    epoch = stream.epoch(0)
    assert int(epoch.batch(0)) == 0
    iterator = epoch._iterator

    @tf.function(autograph=False)
    def trace():
        epoch.close(is_over=False)
        return tf.constant(0)

    trace()
    assert next(iterator, None) is None


def test_after_the_mark_a_worker_computes_its_own_samples_alone(monkeypatch):
    computed = []

    def data():
        own = []
        computed.append(own)

        def note(x):
            own.append(int(x))
            return x

        return (
            samples()
            .apply(tfdp.shard)
            .map(lambda x: tf.numpy_function(note, [x], tf.int64))
            .map(lambda x: tf.ensure_shape(x, []))
            .batch(4)
        )

    numbered.fit_all(data, 1, 2, monkeypatch)
    assert sorted(sum(computed, [])) == list(range(23))


REPEATED = {
    "endless": (lambda: shuffled().repeat().batch(4), {}),
    "mark endless": (
        lambda: shuffled().repeat().apply(tfdp.shard).batch(4),
        {},
    ),
    "twice": (lambda: shuffled().batch(4).repeat(2), {}),
    "array": (lambda: np.arange(COUNT), {"shuffle": False, "batch_size": 4}),
    "generator": (
        lambda: ((np.arange(4 * i, 4 * i + 4),) for i in range(9)),
        {},
    ),
}


@pytest.mark.parametrize("kind", REPEATED)
def test_steps_per_epoch_are_of_all_workers(kind, monkeypatch):
    data, given = REPEATED[kind]
    given = {"steps_per_epoch": 3, **given}
    expected = numbered.on_one_device(data, 3, **given)
    assert len(expected) == 9
    kept, _ = numbered.fit_all(data, 3, 2, monkeypatch, **given)
    assert kept == expected


@pytest.mark.parametrize("kind", sorted(DATA.keys() - {"items"}))
def test_who_comes_in_a_later_epoch_has_its_order(kind, monkeypatch):
    expected = numbered.on_one_device(DATA[kind], 3, **arguments(kind))
    numbered.as_worker(monkeypatch, 0, 2)
    keras.utils.set_random_seed(numbered.SEED)
    feed = numbered.FakeFeed(numbered.BatchQueue(1), 0)
    model = numbered.model_of(feed)
    callback = numbered.Epochs(feed)
    keras_fit.begin_at_epoch(model, 2)
    model.fit(
        DATA[kind](), epochs=3, verbose=0, callbacks=[callback],
        **arguments(kind),
    )  # fmt: skip
    last = {key: each for key, each in expected.items() if key[0] == 2}
    assert callback.kept == last


@pytest.mark.parametrize("kind", ["shuffled", "mark", "items", "array"])
def test_replicas_share_each_batch(kind, monkeypatch):
    expected = numbered.on_one_device(DATA[kind], 2, **arguments(kind))
    numbered.as_worker(monkeypatch, 0, 2)
    keras.utils.set_random_seed(numbered.SEED)
    feed = numbered.FakeFeed(numbered.BatchQueue(1), 0)
    model = numbered.model_of(feed, ["CPU:0", "CPU:1"])
    callback = numbered.Epochs(feed)
    model.fit(
        DATA[kind](), epochs=2, verbose=0, callbacks=[callback],
        **arguments(kind),
    )  # fmt: skip
    assert callback.kept == expected
    # One that is trained on, and few ahead.
    assert feed.most_taken <= 4


@pytest.mark.parametrize("kind", ["in order", "mark mapped", "items"])
def test_few_batches_are_taken_ahead(kind, monkeypatch):
    _, feeds = numbered.fit_all(
        DATA[kind], 1, 1, monkeypatch, **arguments(kind)
    )
    assert feeds[0].most_taken <= 4


def test_validation_reads_all_on_every_worker(monkeypatch):
    numbered.as_worker(monkeypatch, 1, 2)
    feed = numbered.FakeFeed(numbered.BatchQueue(1), 0)
    model = numbered.model_of(feed)
    data = samples().apply(tfdp.shard).batch(4)
    callback = numbered.Epochs(feed)
    model.fit(
        data, epochs=2, verbose=0, callbacks=[callback], validation_data=data
    )
    assert sorted(model.tested) == sorted([*range(COUNT)] * 2)
    assert len(callback.kept) == 12
    model.tested.clear()
    model.evaluate(data, verbose=0)
    assert model.tested == [*range(COUNT)]


@pytest.mark.long
def test_training_stops_in_the_midst(monkeypatch):
    def stop(callback, number):
        callback.model.stop_training = number == 1

    numbered.as_worker(monkeypatch, 0, 2)
    feed = numbered.FakeFeed(numbered.BatchQueue(1), 0)
    model = numbered.model_of(feed)
    callback = numbered.Epochs(feed, on_batch=stop)
    data = samples().apply(tfdp.shard).batch(4).prefetch(tf.data.AUTOTUNE)
    model.fit(data, epochs=3, verbose=0, callbacks=[callback])
    assert sorted(callback.kept) == [(0, 0), (0, 1)]
    assert feed.taken[0] == 2


REFUSED = {
    "`cache` after it": lambda: samples().apply(tfdp.shard).cache().batch(4),
    "`filter` after it": lambda: (
        samples().apply(tfdp.shard).filter(lambda x: x > 2).batch(4)
    ),
    "`shuffle` after it": lambda: (
        samples().apply(tfdp.shard).shuffle(4).batch(4)
    ),
    "`repeat` after it": lambda: samples().apply(tfdp.shard).batch(4).repeat(2),
    "no `batch` after it": lambda: samples().batch(4).apply(tfdp.shard),
    r"`map\(..., deterministic=False\)`": lambda: (
        samples().batch(4).map(abs, num_parallel_calls=2, deterministic=False)
    ),
    "at least one batch": lambda: samples(0).batch(4),
    "number of axes is unknown": lambda: (
        samples()
        .batch(4)
        .map(lambda x: tf.numpy_function(lambda x: x, [x], tf.int64))
    ),
}


@pytest.mark.parametrize("said", REFUSED)
def test_what_would_be_other_batches_is_refused(said, monkeypatch):
    numbered.as_worker(monkeypatch, 0, 2)
    feed = numbered.FakeFeed(numbered.BatchQueue(2), 0)
    model = numbered.model_of(feed)
    with pytest.raises(ValueError, match=said):
        model.fit(REFUSED[said](), verbose=0)
    assert feed.taken == []


def test_a_shuffling_without_a_seed_is_refused(monkeypatch):
    numbered.as_worker(monkeypatch, 0, 2)
    monkeypatch.setattr(tf_datasets, "shuffle_seeds", lambda _: [0, 0])
    model = numbered.model_of(numbered.FakeFeed(numbered.BatchQueue(2), 0))
    with pytest.raises(ValueError, match="made before the strategy"):
        model.fit(shuffled().batch(4), verbose=0)


def test_steps_that_do_not_divide_the_data_are_refused(monkeypatch):
    numbered.as_worker(monkeypatch, 0, 2)
    model = numbered.model_of(numbered.FakeFeed(numbered.BatchQueue(2), 0))
    with pytest.raises(ValueError, match="Received: 4 of 6 batches"):
        model.fit(samples().batch(4), steps_per_epoch=4, verbose=0)


def test_data_that_end_before_all_steps_are_refused(monkeypatch):
    def data():
        return ((np.arange(4),) for _ in range(4))

    with pytest.raises(Exception, match="Received: 4 batches"):
        numbered.fit_all(data, 2, 1, monkeypatch, steps_per_epoch=3)


def test_a_mark_is_set_once(monkeypatch):
    numbered.as_worker(monkeypatch, 0, 2)
    with pytest.raises(ValueError, match="Apply it once"):
        samples().apply(tfdp.shard).map(abs).apply(tfdp.shard)
    with pytest.raises(RuntimeError, match="Apply it to the outer dataset"):
        samples().interleave(lambda _: samples().apply(tfdp.shard))


def test_one_thread_is_enough():
    done = subprocess.run(
        [sys.executable, SHARED / "numbered_on_one_thread.py"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout == "through\n", done.stderr


def test_what_a_feed_raises_ends_the_fit(monkeypatch):
    numbered.as_worker(monkeypatch, 0, 2)
    feed = numbered.FakeFeed(numbered.BatchQueue(1), 0)
    take, takes = feed.take, itertools.count()

    def fails():
        # Batches are read ahead of the steps.
        if next(takes) == 2:
            raise RuntimeError("the server is gone")
        return take()

    feed.take = fails
    model = numbered.model_of(feed)
    callback = numbered.Epochs(feed)
    with pytest.raises(Exception, match="the server is gone"):
        model.fit(shuffled().batch(2), verbose=0, callbacks=[callback])


def test_elements_of_a_grain_map_dataset_are_found_by_their_number(
    monkeypatch,
):
    grain = pytest.importorskip("grain")

    def data():
        elements = grain.MapDataset.range(COUNT).shuffle(seed=3)
        return tfdp.shard(elements.map(np.int64).batch(4))

    expected = numbered.on_one_device(data, 2)
    for lose in (None, 1):
        kept, feeds = numbered.fit_all(data, 2, 2, monkeypatch, lose=lose)
        assert kept == expected
        assert not feeds[0].given_up


def test_a_second_fit_goes_on_in_the_order_of_one_device(monkeypatch):
    data = shuffled().batch(4)
    expected = [numbered.on_one_device(lambda: data, 2) for _ in range(2)]
    again = shuffled().batch(4)
    assert expected == [
        numbered.fit_all(lambda: again, 2, 1, monkeypatch)[0] for _ in range(2)
    ]
    assert expected[0] != expected[1]
