"""Which private name of TensorFlow moved, of those of `tf_iterator_states`."""

import pytest
import tensorflow as tf
from contracts import contract

from tfdp.upstream.tensorflow import tf_iterator_states

SERVES = "what a lost worker leaves of shuffled data is read in another order"


def generated():
    return tf.data.Dataset.from_generator(
        lambda: iter(range(9)), output_signature=tf.TensorSpec((), tf.int64)
    )


def parts():
    numbers = tf.data.Dataset.range(9)
    return numbers.shuffle(9, seed=1), numbers.shuffle(9, seed=2)


SHUFFLED = {
    "shuffle": lambda: tf.data.Dataset.range(9).shuffle(9, seed=3),
    "generator": lambda: generated().shuffle(9, seed=3),
    "batch": lambda: tf.data.Dataset.range(9).batch(2).shuffle(9, seed=3),
    "cache": lambda: tf.data.Dataset.range(9).cache().shuffle(9, seed=3),
    "repeat": lambda: tf.data.Dataset.range(9).shuffle(9, seed=3).repeat(2),
    "zip": lambda: tf.data.Dataset.zip(*parts()).map(lambda a, b: 10 * a + b),
    "interleave": lambda: (
        tf.data.Dataset.range(3)
        .shuffle(3, seed=3)
        .interleave(lambda x: tf.data.Dataset.range(3 * x, 3 * x + 3))
    ),
    "random": lambda: tf.data.Dataset.random(
        4, rerandomize_each_iteration=True
    ).take(5),
}


def listed(iterator):
    return [element.numpy().tolist() for element in iterator]


@contract("_iterator_resource", "SerializeIterator", serves=SERVES)
@pytest.mark.parametrize("kind", SHUFFLED)
def test_an_order_is_gone_through_again_and_the_next_is_the_next(kind):
    plain = SHUFFLED[kind]()
    orders = [listed(plain) for _ in range(3)]
    dataset = SHUFFLED[kind]()
    iterator = iter(dataset)
    begin = tf_iterator_states.state(iterator)
    assert listed(iterator) == orders[0]
    for _ in range(2):
        again = iter(dataset)
        tf_iterator_states.restore(again, begin)
        assert listed(again) == orders[0]
    assert [listed(dataset) for _ in range(2)] == orders[1:]


def test_what_has_no_state_is_told(monkeypatch):
    def fails(**_):
        raise tf.errors.UnimplementedError(None, None, "no state")

    monkeypatch.setattr(tf.raw_ops, "SerializeIterator", fails)
    assert tf_iterator_states.state(iter(tf.data.Dataset.range(1))) is None
