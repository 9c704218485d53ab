"""Which items are this worker's, and what may decide on their order."""

import pickle
import random

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfdp
from tfdp.cluster.membership import Membership
from tfdp.data import Share, by_rows
from tfdp.data.items import rows
from tfdp.data.orders import orders


class Items(keras.utils.PyDataset):
    def __init__(self, count, **attributes):
        super().__init__(workers=3, max_queue_size=7)
        self.count = count
        vars(self).update(attributes)

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return {"x": np.full((2, 3), index)}, None, tf.fill([2], index)


class Endless(Items):
    __len__ = None
    num_batches = None


class Shuffled(Items):
    def on_epoch_end(self):
        self.rng.shuffle(self.order)


@pytest.fixture
def second_of_three(monkeypatch):
    own = [Membership(1, 3)]
    monkeypatch.setattr("tfdp.cluster.membership._joined", own)


def test_the_only_worker_has_all_items():
    items = Items(3)
    assert tfdp.shard(items) is items


@pytest.mark.usefixtures("second_of_three")
def test_a_worker_has_one_item_of_each_step():
    own = tfdp.shard(Items(7))
    assert len(own) == own.num_batches == 3
    assert [int(own[step][2][0]) for step in range(2)] == [1, 4]
    assert (own.workers, own.use_multiprocessing) == (3, False)
    assert own.max_queue_size == 7


@pytest.mark.usefixtures("second_of_three")
@pytest.mark.parametrize("count", [1, 7])
def test_where_there_is_none_left_it_has_one_without_rows(count):
    own = tfdp.shard(Items(count))
    first, nothing, last = own[len(own) - 1]
    assert first["x"].shape == (0, 3)
    assert nothing is None
    assert last.shape == (0,)


@pytest.mark.usefixtures("second_of_three")
def test_items_without_end_have_none_left_never():
    own = tfdp.shard(Endless(1))
    assert own.num_batches is None
    assert int(own[100][2][0]) == 301
    with pytest.raises(TypeError, match="has no end"):
        len(own)


@pytest.mark.usefixtures("second_of_three")
def test_items_part_once():
    with pytest.raises(ValueError, match="Samples of workers part once"):
        tfdp.shard(tfdp.shard(Items(7)))


def test_what_is_not_split_is_named():
    with pytest.raises(TypeError, match=r"keras.utils.PyDataset.*list"):
        tfdp.shard([1, 2])


@pytest.mark.usefixtures("second_of_three")
def test_what_an_epoch_has_changed_is_compared():
    compared = []
    items = Shuffled(
        6, rng=random.Random(1), order=list(range(50)), data=np.zeros(3)
    )
    own = tfdp.shard(items)
    own.compare = lambda *found: compared.append(found)
    own.on_epoch_begin()
    own.on_epoch_end()
    ((method, changed),) = compared
    assert method == "on_epoch_end"
    assert changed.keys() == {"rng", "order", "length"}
    assert changed["length"] == 6


@pytest.mark.usefixtures("second_of_three")
def test_processes_that_read_do_not_compare():
    own = tfdp.shard(Items(7))
    own.compare = lambda *found: None
    copy = pickle.loads(pickle.dumps(own))
    assert copy.compare is None
    assert int(copy[1][2][0]) == 4


LARGE = np.arange(1_200_000)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (np.arange(5), np.arange(5)[::-1]),
        (LARGE, np.random.default_rng(0).permutation(LARGE)),
        (np.array(["a", "b"], object), np.array(["b", "a"], object)),
        ([1, 2], [2, 1]),
        ([("a", 1), ("b", 2)], [("b", 2), ("a", 1)]),
        (tf.range(3), tf.range(1, 4)),
        (random.Random(1), random.Random(2)),
        (np.random.RandomState(1), np.random.RandomState(2)),
        (np.random.default_rng(1), np.random.default_rng(2)),
        (
            np.random.Generator(np.random.MT19937(1)),
            np.random.Generator(np.random.MT19937(2)),
        ),
        (Items(1, order=[1, 2]), Items(1, order=[2, 1])),
    ],
    ids=lambda value: type(value).__name__,
)
def test_another_order_is_another_number(one, other):
    found = [orders(Items(1, given=given)) for given in (one, one, other)]
    assert found[0] == found[1] != found[2]
    assert found[0].keys() == found[2].keys()


def test_what_decides_on_no_order_is_left_out():
    assert orders(Items(1, given=[object()], name="x", other={}, at=0.5)) == {}


@pytest.mark.parametrize("workers_rows", [0, 1, 5, 6])
def test_the_rows_of_a_batch_are_those_of_replicas_in_their_order(workers_rows):
    batch = np.arange(workers_rows * 2).reshape(-1, 2)
    ragged = tf.RaggedTensor.from_row_lengths(batch[:, 0], [1] * workers_rows)
    given = tf.data.Dataset.from_tensors((batch, (ragged, batch[:, 1])))
    split = by_rows(given, Share(0, 2, 4), 1)
    assert split.steps == 1
    parts = list(split.dataset)
    sizes = [len(first) for first, _ in parts]
    assert len(sizes) == 4
    assert sizes == sorted(sizes, reverse=True)
    assert max(sizes) - min(sizes) <= 1
    np.testing.assert_array_equal(
        np.concatenate([first for first, _ in parts]), batch
    )
    again = tf.concat([part for _, (part, _) in parts], 0)
    assert again.to_list() == ragged.to_list()


def test_sparse_rows_are_taken_too():
    dense = np.arange(12).reshape(4, 3)
    part = rows(tf.sparse.from_dense(dense), 1, 3)
    np.testing.assert_array_equal(tf.sparse.to_dense(part), dense[1:3])
