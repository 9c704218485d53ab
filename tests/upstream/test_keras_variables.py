"""Which private name of Keras moved, of those that `keras_variables` uses."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from contracts import contract

from tfdp.upstream.keras import keras_variables
from tfdp.upstream.keras.keras_variables import Recording


@contract(
    "_deferred_initialize", "_value", serves="weights are on the first device"
)
def test_a_variable_that_keras_makes_later_is_made_in_the_context():
    entered = []

    @contextlib.contextmanager
    def context():
        entered.append(keras_variables.made_value(variable))
        yield

    with keras.StatelessScope():
        variable = keras.Variable("ones", shape=(2,))
        keras_variables.make_later_within(variable, context)
        assert entered == []
    assert entered == [None]
    assert variable.numpy().tolist() == [1, 1]


@contract("_value", serves="weights that were built before stay where they are")
def test_a_variable_is_made_anew_with_its_value():
    variable = keras.Variable([1.0, 2.0], trainable=False)
    before = keras_variables.made_value(variable)
    variable.assign([3.0, 4.0])
    keras_variables.make_anew(variable)
    assert keras_variables.made_value(variable) is not before
    assert variable.numpy().tolist() == [3, 4]
    assert not variable.value.trainable


@contract(
    "original_scope", serves="statistics of one micro-batch are not the next's"
)
def test_what_is_assigned_in_a_recording_is_read_there_and_nowhere_else():
    variable, other = keras.Variable(1.0), keras.Variable(10.0)
    with Recording([variable]) as outer:
        variable.assign(2.0)
        with Recording([variable]) as inner:
            assert float(variable.value) == 2
            assert keras_variables.are_substituted([other, variable])
            assert not keras_variables.are_substituted([other])
            variable.assign_add(3.0)
            other.assign(11.0)
        assert float(variable.value) == 2
        inner.assign()
        assert float(variable.value) == 5
    assert [float(variable.value), float(other.value)] == [1, 10]
    outer.assign()
    assert [float(variable.value), float(other.value)] == [5, 11]


def test_losses_are_collected_and_not_kept_by_layers():
    layer = keras.layers.ActivityRegularization(l2=1.0)
    with Recording([]) as recording:
        layer(tf.ones((2, 3)))
        taken = recording.take_losses()
    assert [float(each) for each in taken] == [3.0]
    assert recording.losses == layer.losses == []


def test_random_layers_draw_on_within_recordings():
    layer = keras.layers.Dropout(0.5, seed=1)
    ones = tf.ones((64,))
    with Recording(layer.variables) as recording:
        drawn = [layer(ones, training=True).numpy() for _ in range(2)]
    assert np.any(drawn[0] != drawn[1])
    recording.assign()
    alike = keras.layers.Dropout(0.5, seed=1)
    expected = [alike(ones, training=True).numpy() for _ in range(3)]
    np.testing.assert_array_equal(drawn, expected[:2])
    np.testing.assert_array_equal(layer(ones, training=True), expected[2])


@pytest.mark.parametrize(
    ("initializer", "is_filled"),
    [
        ("zeros", True),
        (keras.initializers.Ones(), True),
        (keras.initializers.Constant(0), False),
        ("glorot_uniform", False),
        (lambda shape, dtype: tf.zeros(shape, dtype), False),
        (np.zeros(3), False),
    ],
)
@contract("initializer", serves="every slot is sent to all workers by itself")
def test_what_keras_fills_is_told_by_its_initializer(initializer, is_filled):
    seen = []

    def creator(next_creator, **arguments):
        value = arguments["initial_value"]
        seen.append(keras_variables.is_filled_by_keras(value))
        return next_creator(**arguments)

    with tf.variable_creator_scope(creator):
        shape = None if isinstance(initializer, np.ndarray) else (3,)
        keras.Variable(initializer, shape=shape)
    assert seen == [is_filled]


def test_what_is_no_function_of_keras_is_not_filled_by_it():
    initializer = 0
    assert not keras_variables.is_filled_by_keras(tf.zeros(3))
    assert not keras_variables.is_filled_by_keras(lambda: initializer)
