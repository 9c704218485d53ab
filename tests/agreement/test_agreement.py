"""What workers tell each other, seen from one of them."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tfdp.agreement import gathering as agreement
from tfdp.agreement.gathering import (
    agreed_seed,
    all_gather,
    broadcast,
    check_same,
    check_same_packs,
    gather_objects,
)


@dataclasses.dataclass
class Worker:
    num_workers: int = 1
    worker_index: int = 0


def test_one_worker_gathers_its_own_integers():
    gathered = all_gather(Worker(), [2**62, -1])
    assert gathered.dtype == np.int64
    assert gathered.tolist() == [[2**62, -1]]


@pytest.mark.parametrize("values", [[0.5, 2.0], np.array([1, 2], "float32")])
def test_floats_travel_as_float64(values):
    gathered = all_gather(Worker(), values)
    assert gathered.dtype == np.float64
    assert gathered.tolist() == [list(values)]


def test_each_worker_fills_its_own_row(monkeypatch):
    def summed(strategy, table):
        assert table.tolist() == [[0, 0], [0, 0], [5, 6]]
        return table + 1

    monkeypatch.setattr(agreement, "_summed", summed)
    gathered = all_gather(Worker(3, 2), [5, 6])
    assert gathered.tolist() == [[1, 1], [1, 1], [6, 7]]


def test_packs_are_the_same_everywhere(monkeypatch):
    check_same_packs(Worker(), 5)
    check_same_packs(Worker(), 0)
    monkeypatch.setattr(
        agreement, "_summed", lambda strategy, table: table + [[0], [7]]
    )
    with pytest.raises(RuntimeError) as error:
        check_same_packs(Worker(2, 0), 5)
    assert str(error.value) == (
        "All workers must send gradients in packs of the same size. Received: "
        "[5, 7] bytes, by worker. Give all the same `TFDP_PACK_MIB` and the "
        "same `communication_options`."
    )


@pytest.mark.parametrize("value", [None, [], "é", {"a": [1, 0.5, True, None]}])
def test_one_worker_gathers_its_own_object(value):
    assert gather_objects(Worker(), value) == [value]


def test_what_json_cannot_hold_is_refused():
    with pytest.raises(TypeError, match="not JSON serializable"):
        gather_objects(Worker(), object())


def test_one_worker_has_the_chiefs_array():
    array = np.array([np.nan, -0.0])
    assert broadcast(Worker(), array) is array


def test_an_array_without_elements_does_not_travel(monkeypatch):
    """TensorFlow crashes on it."""
    monkeypatch.setattr(agreement, "_summed", pytest.fail)
    array = np.zeros((0, 3))
    assert broadcast(Worker(2, 1), array) is array


def test_other_workers_give_nothing_to_a_broadcast(monkeypatch):
    given = []

    def summed(strategy, words):
        given.append(words.any())
        return words

    monkeypatch.setattr(agreement, "_summed", summed)
    for index in range(2):
        broadcast(Worker(2, index), np.ones(3))
    assert given == [True, False]


@pytest.fixture
def others(monkeypatch):
    """What the other workers have, in `check_same`."""
    others = []
    monkeypatch.setattr(
        agreement, "gather_objects", lambda _, own: [own, *others]
    )
    return others


def test_one_worker_has_the_same_program():
    check_same(Worker(), {"epochs": 1, "name": None})


def test_the_same_items_in_another_order_are_the_same(others):
    others.append({"b": 2, "a": 1})
    check_same(Worker(2), {"a": 1, "b": 2})


def test_only_items_that_differ_are_told_of_all_workers(others):
    others += [{"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 4, "c": 5}]
    with pytest.raises(RuntimeError) as caught:
        check_same(Worker(3), {"a": 1, "b": 2, "c": "3"})
    assert str(caught.value) == (
        "Every worker must train the same model in the same way. Received "
        "b: 2 on worker 0, 2 on worker 1, 4 on worker 2; "
        "c: '3' on worker 0, 3 on worker 1, 5 on worker 2. Run the same "
        "program with the same arguments and versions on every worker."
    )


@pytest.mark.parametrize(
    ("own", "other", "received"),
    [
        ({}, {"optimizer 1": "Adam"}, "None on worker 0, 'Adam' on worker 1"),
        ({"optimizer 1": "Adam"}, {}, "'Adam' on worker 0, None on worker 1"),
    ],
)
def test_an_item_that_one_worker_lacks_differs(others, own, other, received):
    others.append(other)
    with pytest.raises(RuntimeError, match=f"optimizer 1: {received}"):
        check_same(Worker(2), own)


def test_the_seed_that_the_program_has_set_is_agreed_on():
    try:
        tf.random.set_seed(1234)
        assert agreed_seed(Worker()) == 1234
    finally:
        tf.random.set_seed(None)


def test_without_a_seed_the_chiefs_drawn_one_is_agreed_on(monkeypatch):
    monkeypatch.setattr(agreement.tf_runtime, "global_seed", lambda: None)
    monkeypatch.setattr(
        agreement, "all_gather", lambda _, own: np.array([[7], own])
    )
    assert agreed_seed(Worker(2, 1)) == 7
