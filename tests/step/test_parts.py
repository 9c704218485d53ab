"""What a step makes of a part of its batch is told; what is exact is not."""

import keras
import pytest
import tensorflow as tf
from keras import ops
from parts import dense, difference, trained

import tfdp

KEPT = "What a layer keeps of a batch"
MOVED = "Weights must be moved by"
MICRO_BATCHES = "a layer's state should move once per update"


class Observer(keras.layers.Layer):
    def __init__(self, moved):
        super().__init__()
        self.moved = moved

    def build(self, shape):
        self.state = self.add_weight(
            shape=(), initializer="ones", trainable=False, name="state"
        )

    def call(self, x, training=False):
        if training:
            self.moved(self.state, x)
        return x / ops.stop_gradient(self.state)


def observing(moved):
    def make():
        return keras.Sequential(
            [
                keras.Input((5,)),
                Observer(moved),
                keras.layers.Dense(1),
            ]
        )

    return make


def of_all(x):
    return tfdp.gather(ops.stop_gradient(x))


MOVES = {
    "max": lambda s, x: s.assign(ops.maximum(s, ops.max(ops.abs(x)))),
    "sum": lambda s, x: s.assign_add(ops.sum(ops.abs(x))),
    "mean": lambda s, x: s.assign(0.5 * s + 0.5 * ops.mean(ops.abs(x))),
    "count": lambda s, x: s.assign_add(ops.cast(ops.shape(x)[0], "float32")),
}
EXACT = {
    "counter": lambda s, x: s.assign_add(1.0),
    "by itself": lambda s, x: s.assign(0.5 * s + 1.0),
    "by a branch": lambda s, x: s.assign(
        tf.cond(s > 1.0, lambda: s + 1.0, lambda: s + 2.0)
    ),
}


@tf.function
def counted(state, x):
    state.assign_add(1.0)
    return 2.0 * x


EXACT["in a function"] = counted
ENDS = pytest.mark.parametrize("samples", [24, 17])  # The last batch is of one.


@pytest.mark.sampled
@pytest.mark.parametrize("name", MOVES)
def test_state_that_moves_with_a_part_of_the_batch_is_told_once(name):
    _, told, _ = trained(observing(MOVES[name]))
    (message,) = told
    assert message.startswith(KEPT)
    assert "/state` of Observer" in message


@pytest.mark.sampled
@ENDS
@pytest.mark.parametrize("name", MOVES)
def test_state_that_moves_with_the_rows_of_all_is_that_of_one_device(
    name, samples
):
    make = observing(lambda s, x: MOVES[name](s, of_all(x)))
    assert difference(make, samples=samples) <= 1e-5


@pytest.mark.sampled
@ENDS
@pytest.mark.parametrize("name", EXACT)
def test_state_that_moves_without_the_batch_is_not_told(name, samples):
    assert difference(observing(EXACT[name]), samples=samples) <= 1e-5


class Tracking(keras.Model):
    def train_step(self, data):
        self.state.assign(tf.reduce_mean(data[0]))
        return super().train_step(data)


@pytest.mark.parametrize("aggregation", ["none", "mean"])
def test_state_that_is_aggregated_is_exact_and_other_state_told(aggregation):
    def make():
        model = dense(Tracking)()
        model.state = model.add_weight(
            shape=(), trainable=False, aggregation=aggregation
        )
        return model

    if aggregation == "mean":
        assert difference(make, whole=True) <= 1e-5
    else:
        (message,) = trained(make)[1]
        assert message.startswith(KEPT)


@pytest.mark.sampled
@pytest.mark.parametrize("synchronized", [False, True])
def test_batch_statistics_are_told_nowhere_but_in_an_audit(synchronized):
    def make():
        normalized = keras.layers.BatchNormalization(synchronized=synchronized)
        return keras.Sequential(
            [keras.Input((5,)), normalized, keras.layers.Dense(1)]
        )

    assert not trained(make)[1]


def test_on_one_replica_nothing_is_told():
    assert not trained(observing(MOVES["max"]), replicas=1)[1]


class Distorted(keras.Model):
    """Sharpness-aware: takes its gradient where the loss is larger."""

    of_all = False

    def train_step(self, data):
        x, y = data
        gradients = self.gradients(x, y)
        if self.of_all:
            context = tf.distribute.get_replica_context()
            gradients = context.all_reduce("SUM", gradients)
        norm = tf.linalg.global_norm(gradients)
        moves = [0.5 * each / norm for each in gradients]
        for variable, move in zip(self.trainable_variables, moves, strict=True):
            variable.assign_add(move)
        gradients = self.gradients(x, y)
        for variable, move in zip(self.trainable_variables, moves, strict=True):
            variable.assign_sub(move)
        self.optimizer.apply(gradients, self.trainable_variables)
        return self.compute_metrics(x, y, self(x))

    def gradients(self, x, y):
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x, y, self(x, training=True))
        return tape.gradient(loss, self.trainable_variables)


class DistortedByAll(Distorted):
    of_all = True


class Clipped(keras.Model):
    """Its weights are clipped after each update, as in the first WGAN."""

    def train_step(self, data):
        logs = super().train_step(data)
        for variable in self.trainable_variables:
            variable.assign(tf.clip_by_value(variable, -0.3, 0.3))
        return logs


def test_weights_that_move_by_a_part_of_the_gradient_are_told_once():
    _, told, _ = trained(dense(Distorted))
    (message,) = told
    assert message.startswith(MOVED)
    assert "/kernel`, which a step assigns" in message


def test_weights_that_move_by_the_gradient_of_all_are_those_of_one_device():
    assert difference(dense(DistortedByAll)) <= 1e-5


@pytest.mark.sampled
@pytest.mark.parametrize("steps", [1, 2])
def test_weights_that_are_clipped_are_not_told(steps):
    assert not trained(dense(Clipped), steps=steps)[1]


def normalized():
    inside = keras.layers.Dense(4)
    return keras.Sequential(
        [
            keras.Input((5,)),
            keras.layers.SpectralNormalization(inside),
            keras.layers.Dense(1),
        ]
    )


@pytest.mark.parametrize("replicas", [1, 2])
def test_state_that_moves_in_each_micro_batch_is_told(replicas):
    _, told, _ = trained(normalized, replicas, steps=2)
    (message,) = told
    assert MICRO_BATCHES in message
    assert "of SpectralNormalization" in message


def test_state_that_moves_without_data_is_not_told_of_whole_batches():
    assert difference(normalized) <= 1e-5


def test_counters_of_micro_batches_are_not_told():
    assert not trained(observing(EXACT["counter"]), steps=2)[1]


def test_state_of_parts_of_a_micro_batch_is_told_on_one_replica():
    (message,) = trained(observing(MOVES["sum"]), replicas=1, steps=2)[1]
    assert message.startswith(KEPT)
    assert "accumulation_steps=1" in message
