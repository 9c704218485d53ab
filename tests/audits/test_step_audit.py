"""A `train_step` of the user's own is tried, whole and by halves."""

import keras
import numpy as np
import problem
import pytest
import tensorflow as tf
from keras import layers, ops

import tfdp


class Step(keras.Sequential):
    """Keras's step, by hand."""

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = self.loss_of(x, y, self(x, training=True))
        gradients = tape.gradient(loss, self.trainable_variables)
        gradients = self.changed(gradients)
        pairs = zip(gradients, self.trainable_variables, strict=True)
        self.optimizer.apply_gradients(pairs)
        return {"loss": loss}

    def loss_of(self, x, y, y_pred):
        return self.compute_loss(x, y, y_pred)

    def changed(self, gradients):
        return gradients


class Decayed(Step):
    """Half of the decay is of one replica."""

    def loss_of(self, x, y, y_pred):
        weights = [ops.sum(ops.square(v)) for v in self.trainable_variables]
        return super().loss_of(x, y, y_pred) + 0.1 * sum(weights)


class DecayedByShare(Step):
    def loss_of(self, x, y, y_pred):
        weights = [ops.sum(ops.square(v)) for v in self.trainable_variables]
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        loss = super().loss_of(x, y, y_pred)
        return loss + 0.1 * sum(weights) / replicas


class Undivided(Step):
    def loss_of(self, x, y, y_pred):
        return ops.mean(ops.square(y - y_pred))


class DividedByItsOwn(Step):
    def loss_of(self, x, y, y_pred):
        count = self.distribute_strategy.num_replicas_in_sync
        return ops.mean(ops.square(y - y_pred)) / count


class OverAll(Step):
    """As in TensorFlow's guide."""

    def loss_of(self, x, y, y_pred):
        losses = ops.mean(ops.square(y - y_pred), -1)
        return tf.nn.compute_average_loss(losses, global_batch_size=16)


class Clipped(Step):
    def changed(self, gradients):
        return tf.clip_by_global_norm(gradients, 0.01)[0]


class Normed(Step):
    """Of any number of replicas that have the same rows, too."""

    def changed(self, gradients):
        norm = tf.linalg.global_norm(gradients)
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        return [gradient / norm / replicas for gradient in gradients]


class Noisy(Step):
    def loss_of(self, x, y, y_pred):
        noise = tf.random.normal(tf.shape(y_pred))
        return super().loss_of(x, y, y_pred + noise)


class ByItself(Step):
    """Asks no optimizer."""

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x, y, self(x, training=True))
        weights = self.trainable_variables
        for v, g in zip(weights, tape.gradient(loss, weights), strict=True):
            v.assign_sub(0.1 * g)
        return {"loss": loss}


class Changing(Step):
    def __init__(self, *args):
        super().__init__(*args)
        self.mean = keras.metrics.Mean(name="mine")
        self.plain = tf.Variable(0.0, trainable=False)

    def loss_of(self, x, y, y_pred):
        for v in self.trainable_variables:
            v.assign_add(ops.ones_like(v))
        self.mean.update_state(ops.mean(y))
        return super().loss_of(x, y, self(x, training=True))


def compiled(strategy, kind, *between, loss="mse"):
    keras.utils.set_random_seed(0)
    with strategy.scope():
        inputs, output = keras.Input((8,)), layers.Dense(1)
        model = kind([inputs, layers.Dense(4, "tanh"), *between, output])
        sgd = keras.optimizers.SGD(0.1)
        model.compile(tfdp.DistributedOptimizer(sgd), loss)
    return model


def audited(*args, **kwargs):
    return tfdp.audit(compiled(*args, **kwargs), problem.arrays(16))


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Decayed, "gradient is 1."),
        (Undivided, "gradient is twice as large"),
        (Clipped, "gradient is twice as large"),
        (Normed, "times"),
    ],
)
def test_a_step_that_replicas_make_otherwise_is_found(two_replicas, kind, said):
    (finding,) = audited(two_replicas, kind)
    assert finding.severity == "error"
    assert f"`{kind.__name__}.train_step`" in finding.where
    assert said in finding.where
    assert "Divide what Keras does not" in finding.way_out


@pytest.mark.parametrize(
    "kind", [Step, DecayedByShare, DividedByItsOwn, OverAll, Changing]
)
def test_a_sound_step_is_not_accused(two_replicas, kind):
    assert audited(two_replicas, kind) == []


def test_a_loss_of_its_own_is_found_where_compile_has_none(two_replicas):
    (finding,) = audited(two_replicas, Undivided, loss=None)
    assert "twice" in finding.where
    assert audited(two_replicas, DividedByItsOwn, loss=None) == []


def test_statistics_of_the_batch_are_no_fault_of_the_step(two_replicas):
    for kind, severity in ((Step, "note"), (Undivided, "error")):
        first, *_ = audited(two_replicas, kind, layers.BatchNormalization())
        assert first.severity == severity


@pytest.mark.parametrize(
    ("kind", "between"),
    [(Noisy, ()), (Step, (layers.Dropout(0.5),)), (ByItself, ())],
)
def test_what_cannot_be_tried_is_said(two_replicas, kind, between):
    (note,) = audited(two_replicas, kind, *between)
    assert note.severity == "note"
    assert f"`{kind.__name__}.train_step`, which has a way" in note.where


def test_a_trial_changes_nothing(two_replicas):
    between = layers.Dropout(0.5), layers.BatchNormalization()
    model = compiled(two_replicas, Changing, *between)
    before = [np.array(v) for v in model.variables]
    held = [v.value for v in model.variables]
    tfdp.audit(model, problem.arrays(16))
    assert all(
        v.value is own for v, own in zip(model.variables, held, strict=True)
    )
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)
    assert "apply" not in vars(model.optimizer)
    assert model.distribute_strategy is two_replicas
    x, y = problem.arrays(16)
    model.fit(x, y, batch_size=16, verbose=0)
    assert int(model.optimizer.iterations.numpy()) == 1


def test_on_one_replica_it_is_a_note():
    strategy = tfdp.MirroredStrategy(["CPU:0"])
    (finding,) = audited(strategy, Undivided)
    assert finding.severity == "note"
    assert "twice" in finding.where
