"""Gradients as they travel."""

import numpy as np
import pytest

from tfdp.asynchronous.description import Described
from tfdp.asynchronous.gradients import (
    Rows,
    check_gradients,
    flattened,
    restored,
)

VARIABLES = [Described("v/table", (4, 2), "float32")] * 3


def rows(*indices, width=2, dtype="float32", kind="int64"):
    values = np.ones((len(indices), width), dtype)
    return Rows(np.array(indices, kind), values)


def test_gradients_come_as_they_went():
    given = [None, rows(1, 3), np.ones((4, 2), "float32")]
    kinds, arrays = flattened(given)
    assert (kinds, len(arrays)) == ("-rw", 3)
    absent, some, whole = restored(kinds, arrays)
    assert absent is None
    assert isinstance(some, Rows)
    assert whole is given[2]
    check_gradients([absent, some, whole], VARIABLES)


def test_no_rows_are_a_gradient():
    check_gradients([rows(), None, None], VARIABLES)


@pytest.mark.parametrize(
    "wrong",
    [
        rows(0, 0),
        rows(4),
        rows(-1),
        rows(1, width=3),
        rows(1, dtype="float64"),
        rows(1, kind="int32"),
        Rows(np.zeros((1, 1), "int64"), np.ones((1, 2), "float32")),
    ],
    ids=str,
)
def test_rows_are_the_variables(wrong):
    with pytest.raises(ValueError, match="Rows of a gradient must be some of"):
        check_gradients([wrong, None, None], VARIABLES)


def test_a_scalar_has_no_rows():
    with pytest.raises(ValueError, match="Rows of a gradient must be some of"):
        check_gradients([rows(0)], [Described("v/scalar", (), "float32")])


@pytest.mark.parametrize("kinds", ["w", "wwr", "x", 5, None])
def test_a_message_says_what_its_arrays_are(kinds):
    with pytest.raises(ValueError, match="A message says what its arrays are"):
        restored(kinds, [np.ones(1)] * 2)
