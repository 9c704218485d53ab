"""Which private name of TensorFlow moved, of those that `tf_placement` uses."""

import pytest
import tensorflow as tf
from contracts import contract

from tfdp.upstream.private import MissingNameError
from tfdp.upstream.tensorflow import tf_placement

_CPU = "/job:localhost/replica:0/task:0/device:CPU:"


@pytest.fixture
def plain():
    return tf.distribute.MirroredStrategy(
        ["CPU:0", "CPU:1"],
        cross_device_ops=tf.distribute.ReductionToOneDevice(),
    )


@contract("_devices", serves="weights of a stage would be on other devices")
def test_variables_are_made_on_other_devices_than_the_replicas(plain):
    others = [f"{_CPU}2", f"{_CPU}3"]
    with plain.scope(), tf_placement.variables_on(others):
        variable = tf.Variable([1.0, 2.0])
        # One that belongs to another goes where that is.
        with plain.extended.colocate_vars_with(variable):
            slot = tf.Variable(0.0)
    with plain.scope():
        elsewhere = tf.Variable(0.0)
        with plain.extended.colocate_vars_with(variable):
            later = tf.Variable(0.0)
    assert [
        tf_placement.devices_of(each)
        for each in (variable, slot, later, elsewhere)
    ] == [others, others, others, [f"{_CPU}0", f"{_CPU}1"]]

    def read():
        return variable + 1

    tf.function(lambda: plain.run(lambda: variable.assign_add([1.0, 1.0])))()
    assert [
        each.numpy().tolist()
        for each in plain.experimental_local_results(plain.run(read))
    ] == [[3, 4]] * 2


def test_a_variable_that_is_elsewhere_is_no_silent_fault():
    with (
        tf_placement.variables_on([f"{_CPU}2"]),
        pytest.raises(MissingNameError, match="on other devices"),
    ):
        tf.Variable(1.0)
    assert tf_placement.devices_of(tf.Variable(1.0)) == [f"{_CPU}0"]
