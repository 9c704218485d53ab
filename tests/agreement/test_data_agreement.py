"""What workers must agree on about their data, seen from one of them."""

import contextlib
import dataclasses
import re
import warnings

import numpy as np
import pytest
import tensorflow as tf

from tfdp.agreement import datasets as data_agreement
from tfdp.agreement.datasets import (
    check_same_dataset,
    have_same_length,
    warn_of_overlap,
)


@dataclasses.dataclass
class Worker:
    num_workers: int = 1
    worker_index: int = 0


def numbers(start=0, stop=100, batch=10):
    data = np.arange(start, stop, dtype="float32")
    return tf.data.Dataset.from_tensor_slices((data, data % 2)).batch(batch)


class Given(Exception):
    """Ends a function once a worker has said what it has."""


@pytest.fixture
def meet(monkeypatch):
    """Has workers with these datasets call a function, as worker `at`."""

    def meet(function, *datasets, at=0):
        rows = []

        def give(_, own):
            rows.append(np.asarray(own))
            raise Given

        with monkeypatch.context() as patch:
            patch.setattr(data_agreement, "all_gather", give)
            for index, dataset in enumerate(datasets):
                with contextlib.suppress(Given):
                    function(Worker(len(datasets), index), dataset)
            patch.setattr(
                data_agreement, "all_gather", lambda *_: np.stack(rows)
            )
            return function(Worker(len(datasets), at), datasets[at])

    return meet


@pytest.mark.parametrize(
    ("stops", "is_same"),
    [((100, 100), True), ((100, 90), False), ((100, 91), True)],
)
def test_lengths_are_compared_by_batches(meet, stops, is_same):
    datasets = [numbers(stop=stop) for stop in stops]
    assert meet(have_same_length, *datasets) is is_same


def test_an_endless_dataset_is_longer(meet):
    endless = numbers().repeat()
    assert meet(have_same_length, endless, endless)
    assert not meet(have_same_length, endless, numbers())


@pytest.mark.parametrize(
    "make",
    [
        numbers,
        lambda: numbers().shuffle(8, seed=3),
        lambda: numbers().repeat(),
        lambda: tf.data.Dataset.range(0),
        lambda: tf.data.Dataset.from_tensor_slices(["a", "é", ""]).batch(2),
        lambda: tf.data.Dataset.from_tensors({"a": [1], "b": [[2.0]]}),
        lambda: tf.data.Dataset.zip(numbers(), numbers(5, 50)),
        lambda: tf.data.Dataset.from_generator(
            lambda: range(9),
            output_signature=tf.TensorSpec((), tf.int64),
        ),
        lambda: tf.data.Dataset.from_tensor_slices(
            tf.ragged.constant([[1], [2, 3]])
        ),
    ],
    ids=[
        *("arrays", "shuffled", "endless", "empty", "strings", "dict", "zip"),
        *("generator", "ragged"),
    ],
)
def test_the_same_dataset_is_accepted(meet, make):
    for at in range(2):
        meet(check_same_dataset, make(), make(), at=at)


def test_one_worker_has_the_same_dataset():
    check_same_dataset(Worker(), numbers())


@pytest.mark.parametrize("at", [0, 1])
def test_other_numbers_of_batches_are_refused(meet, at):
    with pytest.raises(ValueError, match="given the same dataset") as caught:
        meet(check_same_dataset, numbers(), numbers(stop=90), at=at)
    assert "numbers of batches, by worker: 10, 9." in str(caught.value)
    assert "distribute_datasets_from_function" in str(caught.value)


@pytest.mark.parametrize("at", [0, 1])
def test_other_seeds_are_refused(meet, at):
    datasets = [numbers().shuffle(8, seed=seed) for seed in (3, 4)]
    with pytest.raises(ValueError, match="shuffle in the same order") as caught:
        meet(check_same_dataset, *datasets, at=at)
    own = re.search(rf"worker {at} has \[(.*)\]", str(caught.value))
    assert own[1].endswith(str(3 + at))
    assert "`keras.utils.set_random_seed`" in str(caught.value)


def permuted():
    data = np.arange(100, dtype="float32")[::-1].copy()
    return tf.data.Dataset.from_tensor_slices((data, data % 2)).batch(10)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data,
        lambda data: data.shuffle(8, seed=3),
        lambda data: data.map(lambda x, y: (x + 1, y)).prefetch(2),
        lambda data: tf.data.Dataset.zip(numbers(), data),
    ],
    ids=["plain", "shuffled", "mapped", "zipped"],
)
def test_samples_in_another_order_are_refused(meet, change):
    datasets = [change(numbers()), change(numbers()), change(permuted())]
    with pytest.raises(ValueError, match="same samples in the same order") as e:
        meet(check_same_dataset, *datasets)
    assert "chief's, or in another order, on worker 2." in str(e.value)
    assert "Shuffle with the same seed on every worker" in str(e.value)


def test_other_strings_are_refused(meet):
    datasets = [
        tf.data.Dataset.from_tensor_slices(["a", last]) for last in "bc"
    ]
    with pytest.raises(ValueError, match="same samples in the same order"):
        meet(check_same_dataset, *datasets)


LATE = np.arange(200)
SWAPPED = np.where((LATE == 150) | (LATE == 160), 310 - LATE, LATE)
ROWS = np.zeros((4, 2**17 + 1, 20), "float64")
OTHER_ROWS = ROWS.copy()
OTHER_ROWS[3] = 1


def held(values):
    return tf.data.Dataset.from_tensor_slices(values).batch(10)


def looked_up(values):
    return tf.data.Dataset.range(200).map(lambda i: tf.gather(values, i))


def ragged(values):
    return tf.RaggedTensor.from_row_lengths(np.repeat(values, 2), [2] * 200)


@pytest.mark.parametrize(
    ("make", "one", "other"),
    [
        (held, LATE, SWAPPED),
        (held, LATE.astype(str), SWAPPED.astype(str)),
        (held, {"a": LATE, "b": LATE}, {"a": LATE, "b": SWAPPED}),
        (held, ragged(LATE), ragged(np.flip(LATE))),
        (held, ROWS, OTHER_ROWS),
        (tf.data.Dataset.from_tensors, LATE, SWAPPED),
        (looked_up, LATE, SWAPPED),
        (looked_up, tf.constant(LATE), tf.constant(SWAPPED)),
        (
            looked_up,
            tf.constant(LATE.astype(str)),
            tf.constant(SWAPPED.astype(str)),
        ),
    ],
    ids=[
        *("numbers", "names", "dict", "ragged", "large", "whole"),
        *("looked up", "outside", "names outside"),
    ],
)
def test_samples_that_differ_late_are_refused(meet, make, one, other):
    meet(check_same_dataset, make(one), make(one))
    with pytest.raises(ValueError, match="in another order, on worker 1"):
        meet(check_same_dataset, make(one), make(other))


def test_a_seed_of_its_own_is_a_workers(meet):
    def drawn(worker):
        return numbers().map(
            lambda x, y: (x + tf.random.stateless_normal((), [7, worker]), y)
        )

    meet(check_same_dataset, drawn(0), drawn(1))


def test_other_numbers_of_samples_before_workers_part_are_refused(meet):
    def check(*samples):
        def checked(worker, data):
            own = samples[worker.worker_index]
            check_same_dataset(worker, data, micro_batch=10, samples=own)

        meet(checked, numbers(), numbers())

    check(12, 12)
    with pytest.raises(ValueError, match="`tfdp.shard`, by worker: 12, 13."):
        check(12, 13)


def overlap(meet, *datasets, at=0):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        meet(warn_of_overlap, *datasets, at=at)
    return [str(warning.message) for warning in caught]


@pytest.mark.parametrize("at", [0, 1])
def test_the_whole_dataset_on_every_worker_is_warned_of(meet, at):
    (message,) = overlap(meet, numbers(), numbers(), at=at)
    assert message.startswith("Each worker must make a shard of its own, or ")
    assert (
        f"Received: 100 of the first 100 samples of worker {at} among those "
        f"of worker {1 - at}."
    ) in message
    assert "context.input_pipeline_id" in message


def test_every_worker_with_the_same_samples_is_named(meet):
    shards = numbers(0, 60), numbers(200, 260), numbers(30, 90)
    (message,) = overlap(meet, *shards, at=2)
    assert "30 of the first 60 samples of worker 2 among" in message
    assert "those of worker 0." in message
    assert overlap(meet, *shards, at=1) == []


def test_shuffled_shards_are_compared_as_sets(meet):
    shards = [numbers(batch=1).shuffle(100, seed=s).batch(5) for s in (1, 2)]
    (message,) = overlap(meet, *shards)
    assert "among those of worker 1" in message


@pytest.mark.parametrize(
    "shards",
    [
        (numbers(0, 50), numbers(50, 100)),
        (numbers(0, 52), numbers(50, 100)),
        # Samples that repeat within a shard may well be in another.
        (numbers(0, 4).repeat(20), numbers(0, 4).repeat(20)),
        (numbers(0, 50).take(0), numbers(0, 50).take(0)),
        (tf.data.Dataset.range(9), tf.data.Dataset.range(9)),
    ],
    ids=["apart", "two in common", "repeating", "empty", "not batched"],
)
def test_shards_of_their_own_are_not_warned_of(meet, shards):
    assert overlap(meet, *shards) == []


@pytest.fixture
def read():
    """What was read of `endless`."""
    return []


@pytest.fixture
def endless(read):
    def generate():
        for number in range(10**6):
            read.append(number)
            yield [number]

    return tf.data.Dataset.from_generator(
        generate, output_signature=tf.TensorSpec((1,), tf.int64)
    )


def test_of_one_worker_alone_nothing_is_read(endless, read):
    warn_of_overlap(Worker(), endless)
    check_same_dataset(Worker(), endless)
    assert read == []


def test_no_more_is_read_than_the_first_samples(meet, endless, read):
    overlap(meet, endless, numbers())
    assert 0 < len(read) < 100
