"""Which private name of TensorFlow moved, of those of `tf_generators`."""

import numpy as np
import pytest
import tensorflow as tf
from contracts import contract

from tfdp.upstream.tensorflow import tf_generators

SERVES = "generators that yield in different orders are not noticed"


class Told:
    def __init__(self):
        self.all = []

    def heard(self, number, element):
        self.all.append((number, *(np.asarray(e).tolist() for e in element)))

    def ended(self, number):
        self.all.append((number, "end"))


def generated():
    return tf.data.Dataset.from_generator(
        lambda: iter([0, 1]), output_signature=tf.TensorSpec((), tf.int64)
    )


@contract(
    "_functions", "_funcs", "_py_funcs", "PyFunc", "GeneratorDataset",
    serves=SERVES,
)  # fmt: skip
def test_what_a_generator_yields_is_told():
    dataset = generated()
    told = tf_generators.hear(dataset, Told)
    assert list(dataset.as_numpy_iterator()) == [0, 1]
    assert told.all == [(0, 0), (0, 1), (0, "end")]
    # Whatever is made of it, and each time that it is begun.
    assert len(list(dataset.map(abs).repeat(2).batch(3))) == 2
    assert [number for number, *_ in told.all] == [0] * 3 + [1] * 3 + [2] * 3
    assert tf_generators.hear(dataset, Told) is told


@contract("_func", serves=SERVES)
def test_what_is_no_array_is_told():
    spec = tf.RaggedTensorSpec((2, None), tf.int64)
    ragged = tf.ragged.constant([[1], [2, 3]], dtype=tf.int64)
    dataset = tf.data.Dataset.from_generator(
        lambda: iter([(7, ragged)]),
        output_signature=(tf.TensorSpec((), tf.int64), spec),
    )
    told = tf_generators.hear(dataset, Told)
    assert tf_generators.hear(dataset, Told) is told
    told.heard = lambda number, element: told.all.append(int(element[0]))
    ((seven, rows),) = dataset
    assert (int(seven), rows.to_list()) == (7, [[1], [2, 3]])
    assert told.all == [7, (0, "end")]


@pytest.mark.parametrize(
    "dataset",
    [
        tf.data.Dataset.range(2),
        generated().batch(2),
        tf.data.Dataset.range(2).flat_map(lambda _: generated()),
        tf.data.Dataset.range(2).map(
            lambda x: tf.numpy_function(abs, [x], tf.int64)
        ),
    ],
    ids=["none", "later", "nested", "function"],
)
def test_of_others_nothing_is_told(dataset):
    assert tf_generators.hear(dataset, Told) is None
