"""A place in shared memory is used again once nobody has it, and not before."""

import mmap
import os

import numpy as np
import pytest
import tensorflow as tf

from tfdp.transport.shared_memory import SharedMemory


@pytest.fixture
def memory():
    made = SharedMemory()
    yield made
    made.close()


def test_what_is_written_is_in_the_file(memory):
    place, array = memory.array((3,))
    other, more = memory.array((5000,))
    array[:], more[:] = 1, 2
    with mmap.mmap(memory.file, 0) as whole:
        assert np.frombuffer(whole[place : place + 12], "float32").sum() == 3
        assert np.frombuffer(whole[other : other + 20_000], "float32")[-1] == 2


def test_arrays_are_as_tensorflow_wants_them(memory):
    for size in (1, 7, 1025):
        _, array = memory.array((size,))
        assert array.ctypes.data % 64 == 0


@pytest.mark.parametrize(
    "keep", [lambda a: a, lambda a: a[2:], lambda a: a.reshape(2, 3).T]
)
def test_an_array_that_somebody_has_keeps_its_place(memory, keep):
    place, array = memory.array((6,))
    kept = keep(array)
    del array
    assert memory.array((6,))[0] != place
    assert memory.num_places == 2
    del kept
    assert memory.array((6,))[0] == place
    assert memory.num_places == 2


def test_a_tensor_keeps_the_place_that_it_was_made_of(memory):
    """It is the memory itself, of which TensorFlow makes no copy."""
    places = []

    def lent():
        place, array = memory.array((100,))
        array[:] = len(places)
        places.append(place)
        return array

    step = tf.function(lambda: tf.numpy_function(lent, [], tf.float32))
    kept = [step(), step(), step()]
    assert len(set(places)) == 3
    assert [float(each[0]) for each in kept] == [0, 1, 2]
    del kept
    for _ in range(20):
        step()
    # One more than those in use: what is let go of is seen at the next call.
    assert memory.num_places <= 4


def test_it_is_closed_once(memory):
    file = memory.file
    memory.close()
    memory.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(file)
