"""What a program says of itself is saved as JSON and arrays, and comes back."""

import collections

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdp.backup.callback_states import CallbackStates
from tfdp.backup.packing import packed, unpacked


def there_and_back(value):
    arrays = {}
    text = packed(value, "x", arrays)
    return unpacked(text, arrays)


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        -3,
        0.1,
        float("inf"),
        "é",
        [1, [2, "a"]],
        (1, (2.5, None)),
        {"a": {3: (1,)}, (1, 2): []},
        np.float32(0.1),
    ],
    ids=repr,
)
def test_a_value_comes_back_with_its_type(value):
    again = there_and_back(value)
    assert again == value
    assert type(again) is type(value)


def test_arrays_come_back_bit_by_bit():
    bfloat16 = tf.bfloat16.as_numpy_dtype
    for array in (
        np.array([np.nan, -0.0], "float16"),
        np.array([1, 2], "uint32"),
        np.array([0.1, 3.0], bfloat16),
    ):
        again = there_and_back([array])[0]
        assert again.dtype == array.dtype
        assert again.tobytes() == array.tobytes()
    assert there_and_back(tf.constant([1, 2])).tolist() == [1, 2]


@pytest.mark.parametrize(
    "value", [object(), {1}, [lambda: 1]], ids=["object", "set", "function"]
)
def test_what_only_a_pickle_could_hold_is_refused(value):
    with pytest.raises(TypeError, match="was expected, not"):
        packed(value, "x", {})


class Counting(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.count = 0
        self.recent = collections.deque(maxlen=3)
        self.log = print


def test_a_callback_that_is_not_as_it_was_is_named():
    before, now = Counting(), Counting()
    saved = CallbackStates([before])
    before.count = 2
    assert CallbackStates([now]).lost(saved.captured({})) == [
        "Counting (count)"
    ]
    now.count = 2
    assert CallbackStates([now]).lost(saved.captured({})) == []


def test_what_it_was_made_with_may_be_another():
    before, now = Counting(), Counting()
    before.count = 2
    saved = CallbackStates([before]).captured({})
    assert CallbackStates([now]).lost(saved) == []


def test_two_of_a_class_are_told_apart_by_their_order():
    stops = [keras.callbacks.EarlyStopping(), keras.callbacks.EarlyStopping()]
    for wait, stop in enumerate(stops, 1):
        stop.wait = wait
    saved = CallbackStates(stops).captured({})
    again = [keras.callbacks.EarlyStopping(), keras.callbacks.EarlyStopping()]
    CallbackStates(again).restore(saved, {})
    assert [stop.wait for stop in again] == [1, 2]


def test_what_has_gone_or_is_new_is_named():
    stop = keras.callbacks.EarlyStopping()
    saved = CallbackStates([stop]).captured({})
    reduce = keras.callbacks.ReduceLROnPlateau()
    assert CallbackStates([reduce]).lost(saved) == [
        "ReduceLROnPlateau (not in the backup)",
        "EarlyStopping (no longer among the callbacks)",
    ]
