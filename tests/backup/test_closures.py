"""What functions can change and see again is found, and nothing else."""

import functools
import itertools
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdp.backup.closures import place, remembered_by

noted = []


class Tracker:
    def __init__(self):
        self.best = 3
        self.log = print

    def note(self, epoch, logs):
        self.best = epoch


def counting():
    count = 0

    def count_up(epoch, logs):
        nonlocal count
        count += 1

    return count_up


def through_another(inner):
    return lambda epoch, logs: inner(epoch, logs)


def with_default(epoch, logs, seen=noted):
    seen.append(epoch)


def of_module(epoch, logs):
    noted.extend(each for each in logs)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (counting(), {"count": 0}),
        (through_another(counting()), {"count": 0}),
        (with_default, {"seen": noted}),
        (of_module, {"noted": noted}),
        (functools.partial(max, [1]), {"argument 0": [1]}),
        (Tracker().note, {"self.best": 3}),
        (lambda epoch, logs: print(epoch, file=sys.stderr), {}),
    ],
)
def test_what_functions_remember_is_found(function, expected):
    assert remembered_by([function]) == expected


def test_what_is_restored_or_is_data_is_left_out():
    model, data = keras.layers.Dense(1), tf.data.Dataset.range(3)
    large = np.zeros(10**6)

    def look(epoch, logs):
        return model, data, large, np

    assert remembered_by([look]) == {}


def test_names_of_two_functions_are_told_apart():
    assert remembered_by([counting(), counting()]) == {"count": 0, "count'": 0}


@pytest.mark.parametrize(
    "iterator",
    [(k for k in range(3)), itertools.count(), iter([1, 2])],
    ids=["generator", "count", "list"],
)
def test_iterators_tell_that_they_have_moved(iterator):
    before = place(iterator)
    assert place(iterator) == before
    next(iterator)
    assert place(iterator) != before
