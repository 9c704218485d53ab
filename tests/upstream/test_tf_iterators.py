"""Which private name of TensorFlow moved, of those that `tf_iterators` uses."""

import tensorflow as tf
from contracts import contract

from tfdp.upstream.tensorflow import tf_iterators


def begun(strategy=None):
    strategy = strategy or tf.distribute.MirroredStrategy(["CPU:0"])
    data = tf.data.Dataset.range(6).batch(4)
    return iter(strategy.experimental_distribute_dataset(data))


@contract(
    "_type_spec",
    "_from_components",
    serves="starting a step counts as waiting for data",
)
def test_an_iterator_tells_of_each_batch_in_a_graph_too():
    told = tf.Variable(0)
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    iterator = tf_iterators.announcing(begun(), lambda: told.assign_add(1))
    assert isinstance(iterator, tf.distribute.DistributedIterator)
    assert len(next(iterator)) == 4
    assert int(told.numpy()) == 1
    assert iterator.get_next_as_optional().has_value()
    assert int(told.numpy()) == 2

    @tf.function
    def both(batches):
        first = tf.shape(batches.get_next())[0]
        return first, batches.get_next_as_optional().has_value()

    again = tf_iterators.announcing(
        begun(strategy), lambda: told.assign_add(10)
    )
    first, has_more = both(again)
    assert (int(first), bool(has_more)) == (4, True)
    assert int(told.numpy()) == 22
    # Of another type: the graph is not used for one that does not tell.
    both(begun(strategy))
    assert int(told.numpy()) == 22
    both(tf_iterators.announcing(begun(strategy), lambda: told.assign_add(100)))
    assert int(told.numpy()) == 222


def test_a_graph_serves_all_iterators_that_tell_the_same():
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    traces = []

    def announce():
        return tf.constant(0)

    @tf.function
    def step(batches):
        traces.append(type(batches))
        return batches.get_next()

    for _ in range(2):
        step(tf_iterators.announcing(begun(strategy), announce))
    assert len(traces) == 1
