"""Which private name of TensorFlow moved, of those that `tf_replicas` uses."""

import contextlib

import keras
import pytest
import tensorflow as tf
from contracts import contract

from tfdp.upstream.tensorflow import tf_replicas


@pytest.fixture
def plain():
    return tf.distribute.MirroredStrategy(
        ["CPU:0", "CPU:1"],
        cross_device_ops=tf.distribute.ReductionToOneDevice(),
    )


@contract(
    "_merge_call",
    serves="replicas find in layers what others have left there",
)
def test_replicas_take_turns_where_they_meet_and_nowhere_else(plain):
    seen = []

    @contextlib.contextmanager
    def pausing(place):
        seen.append((place, "pauses"))
        yield
        seen.append((place, "goes on"))

    def step():
        context = tf.distribute.get_replica_context()
        place = int(tf.get_static_value(context.replica_id_in_sync_group))
        for i in range(2):
            # A context of `contextlib` can be entered once.
            with tf_replicas.around_turns(pausing(place)):
                seen.append((place, i))
                context.all_reduce("SUM", tf.ones(()))
        seen.append((place, "ends"))

    tf.function(lambda: plain.run(step))()
    assert seen == [
        (0, 0),
        (0, "pauses"),
        (1, 0),
        (1, "pauses"),
        (0, "goes on"),
        (0, 1),
        (0, "pauses"),
        (1, "goes on"),
        (1, 1),
        (1, "pauses"),
        (0, "goes on"),
        (0, "ends"),
        (1, "goes on"),
        (1, "ends"),
    ]


def test_layers_keep_their_losses_in_a_list_among_their_attributes():
    layer = keras.layers.ActivityRegularization(l2=1.0)
    layer(tf.ones((2, 3)))
    lists = [v for v in vars(layer).values() if isinstance(v, list)]
    assert [layer.losses] == [v for v in lists if v and tf.is_tensor(v[0])]


@contract("_merge_call", serves="steps are told of what is exact")
def test_what_replicas_make_together_is_noted(plain):
    noted = []

    def step():
        context = tf.distribute.get_replica_context()
        with tf_replicas.noting_results(noted.append):
            context.all_reduce("SUM", tf.ones(()))
            context.all_gather(tf.ones((1,)), axis=0)
        context.all_reduce("SUM", tf.ones(()))

    tf.function(lambda: plain.run(step))()
    shapes = [each.shape.rank for each in tf.nest.flatten(noted)]
    assert shapes.count(0) == 2
    assert shapes.count(1) >= 2


@contract("threading.Thread", serves="owners update in the strategy's scope")
@pytest.mark.parametrize("traced", [True, False], ids=["graph", "eager"])
def test_a_new_thread_has_no_strategy(plain, traced):
    made = []

    def look():
        assert not tf.distribute.has_strategy()
        variable = tf.Variable(1.0)
        made.append((variable, tf.constant(2.0)))
        return variable.device

    def call():
        with plain.scope():
            assert tf.distribute.has_strategy()
            device = tf_replicas.without_strategy(look, "CPU:1")
            assert tf.distribute.has_strategy()
        assert "CPU:1" in device

    graph = tf.Graph()
    with graph.as_default() if traced else contextlib.nullcontext():
        call()
    ((variable, number),) = made
    # Not one for replicas, and in the same graph.
    assert len(plain.experimental_local_results(variable)) == 1
    assert tf.is_symbolic_tensor(number) is traced
    if traced:
        assert number.graph is graph
        # It waits for what the caller waits for.
        assert number.op.control_inputs


def test_what_a_thread_raises_is_raised():
    with pytest.raises(ZeroDivisionError):
        tf_replicas.without_strategy(lambda: 1 / 0)
