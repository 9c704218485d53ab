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


@contract(
    "_iterators",
    "_element_spec",
    "_strategy",
    "input_lib._create_per_replica",
    serves="workers ask each other in each of several steps at once for data",
)
def test_an_iterator_that_asks_nobody_ends_by_its_own_data():
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    data = tf.data.Dataset.range(12).batch(6)
    distributed = strategy.experimental_distribute_dataset(data)
    plain = iter(distributed)
    iterator = tf_iterators.asking_nobody(iter(distributed))

    @tf.function
    def sums(batches):
        found = []
        for _ in range(3):
            batch = batches.get_next_as_optional()
            found.append((batch.has_value(), batch))
        has_values, (first, second, _) = zip(*found, strict=True)
        return has_values, [
            strategy.experimental_local_results(
                strategy.run(tf.reduce_sum, (each.get_value(),))
            )
            for each in (first, second)
        ]

    for batches in (plain, iterator):
        has_values, totals = sums(batches)
        assert [bool(each) for each in has_values] == [True, True, False]
        assert tf.nest.map_structure(int, totals) == [(3, 12), (21, 30)]
