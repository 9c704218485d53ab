"""Losses that code of the user's own computes, divides, or does not."""

import keras
import numpy as np
import problem
import pytest
import tensorflow as tf

import tfdp


class Endpoint(keras.layers.Layer):
    """Adds the loss itself, by one of Keras's, and a part of its own."""

    def call(self, y_pred, y):
        self.add_loss(keras.losses.MeanSquaredError()(y, y_pred))
        self.add_loss(0.1 * keras.ops.mean(y_pred**2))
        return y_pred


class Undivided(keras.losses.Loss):
    def __call__(self, y_true, y_pred, sample_weight=None):
        return keras.ops.mean(keras.ops.square(y_true - y_pred))


class Followed(keras.losses.Loss):
    def call(self, y_true, y_pred):
        return keras.ops.mean(keras.ops.square(y_true - y_pred), axis=-1)


class Asking(Followed):
    def __call__(self, y_true, y_pred, sample_weight=None):
        return super().__call__(y_true, y_pred, sample_weight)


def endpoint():
    keras.utils.set_random_seed(0)
    x, y = keras.Input((8,)), keras.Input((1,))
    return keras.Model([x, y], Endpoint()(keras.layers.Dense(1)(x), y))


def stacked(kind=keras.Sequential):
    keras.utils.set_random_seed(0)
    return kind([keras.Input((8,)), keras.layers.Dense(1)])


def compiled(strategy, build, loss=None, steps=1):
    with strategy.scope():
        model = build()
        sgd = keras.optimizers.SGD(0.1)
        model.compile(tfdp.DistributedOptimizer(sgd, steps), loss)
    return model


@pytest.mark.parametrize("steps", [1, 2])
def test_a_loss_of_kerass_inside_of_a_layer_is_divided_once(strategy, steps):
    data = [list(problem.arrays(40))]
    expected = endpoint()
    expected.compile(keras.optimizers.SGD(0.1))
    fit = {"epochs": 2, "shuffle": False, "verbose": 0}
    oracle = expected.fit(data[0], batch_size=16, **fit)
    model = compiled(strategy, endpoint, steps=steps)
    assert tfdp.audit(model, data) == []
    history = model.fit(
        data[0],
        batch_size=16 // steps,
        callbacks=[tfdp.callbacks.DataParallel()],
        **fit,
    )
    assert problem.deviation(model.get_weights(), expected.get_weights()) < 1e-6
    if steps == 1:
        np.testing.assert_allclose(
            history.history["loss"], oracle.history["loss"], rtol=1e-5
        )


class OwnStep(keras.Sequential):
    """Moves its inputs by a gradient of the loss, unless told otherwise."""

    is_moved = False

    def train_step(self, data):
        x, y = data
        if self.is_moved:
            with tf.GradientTape() as tape:
                tape.watch(x)
                loss = self.compute_loss(y=y, y_pred=self(x))
            x += tape.gradient(loss, x)
        with tf.GradientTape() as tape:
            loss = self.compute_loss(y=y, y_pred=self(x))
        weights = self.trainable_variables
        self.optimizer.apply(tape.gradient(loss, weights), weights)
        return self.compute_metrics(x, y, None)


class Penalty(keras.layers.Dense):
    def call(self, x):
        y = super().call(x)
        self.add_loss(0.1 * keras.losses.MeanSquaredError()(0.0 * y, y))
        return y


def test_a_loss_that_a_step_of_its_own_divides_twice_is_refused(two_replicas):
    model = compiled(
        two_replicas,
        lambda: OwnStep([keras.Input((8,)), Penalty(1)]),
        "mse",
    )
    with pytest.raises(ValueError, match="by the number of replicas once"):
        model.fit(*problem.arrays(16), batch_size=16, verbose=0)


def test_a_loss_at_inputs_that_a_gradient_moved_is_divided_once(strategy):
    def moved():
        model = stacked(OwnStep)
        model.is_moved = True
        return model

    x, y = problem.arrays(40)
    fit = {"batch_size": 16, "epochs": 2, "shuffle": False, "verbose": 0}
    expected = moved()
    expected.compile(keras.optimizers.SGD(0.1), "mse")
    expected.fit(x, y, **fit)
    model = compiled(strategy, moved, "mse")
    model.fit(x, y, callbacks=[tfdp.callbacks.DataParallel()], **fit)
    assert problem.deviation(model.get_weights(), expected.get_weights()) < 1e-6


def test_a_loss_that_calls_itself_is_found_without_data(two_replicas):
    model = compiled(two_replicas, stacked, Undivided())
    (finding,) = tfdp.audit(model)
    assert finding.severity == "error"
    assert "Undivided overrides it" in finding.message
    assert "Override `call(y_true, y_pred)` instead" in finding.message


def test_the_advice_helps(two_replicas):
    for loss in (Followed(), Asking()):
        model = compiled(two_replicas, stacked, loss)
        assert tfdp.audit(model, problem.arrays(8)) == []


def test_to_wrap_a_loss_that_calls_itself_is_refused():
    with pytest.raises(ValueError, match="Received: Undivided, which overr"):
        tfdp.DistributedLoss(Undivided())


@pytest.mark.parametrize(
    ("factor", "times"), [(0.5, "half"), (2.0, "twice"), (3.0, "3 times")]
)
def test_the_direction_of_a_wrong_division_is_told(two_replicas, factor, times):
    class Wrong(keras.Sequential):
        def compute_loss(self, *args, **kwargs):
            loss = super().compute_loss(*args, **kwargs)
            context = tf.distribute.get_replica_context()
            several = context and context.num_replicas_in_sync > 1
            return loss * 2 * factor if several else loss * 2

    model = compiled(two_replicas, lambda: stacked(Wrong), "mse")
    (finding,) = tfdp.audit(model, problem.arrays(8))
    assert f"its gradient would be {times} as large" in finding.message


class Twice(keras.Model):
    def __init__(self):
        super().__init__()
        self.net = stacked()

    def train_step(self, data):
        x, y = data
        for _ in range(2):
            with tf.GradientTape() as tape:
                loss = keras.losses.MeanSquaredError()(y, self.net(x))
            weights = self.net.trainable_variables
            self.optimizer.apply(tape.gradient(loss, weights), weights)
        return {"loss": loss}


def test_two_updates_of_a_step_equal_one_device(strategy):
    x, y = problem.arrays(16)
    expected = Twice()
    expected.compile(keras.optimizers.SGD(0.1))
    expected.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    model = compiled(strategy, Twice)
    model.fit(
        x,
        y,
        batch_size=8,
        shuffle=False,
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel()],
    )
    assert problem.deviation(model.get_weights(), expected.get_weights()) < 1e-6


def test_two_updates_of_a_step_are_refused_while_accumulating(two_replicas):
    model = compiled(two_replicas, Twice, steps=2)
    with pytest.raises(ValueError, match="`apply` may be called once per step"):
        model.fit(*problem.arrays(8), batch_size=4, verbose=0)


class Returning(keras.Model):
    """Its `call` returns the loss; what is added is added by its step."""

    def __init__(self, added=False):
        super().__init__()
        self.net = stacked()
        self.endpoint = Endpoint() if added else None

    def call(self, data):
        x, y = data
        if self.endpoint:
            return self.endpoint(self.net(x), y)
        return keras.losses.MeanSquaredError()(y, self.net(x))

    def train_step(self, data):
        with tf.GradientTape() as tape:
            loss = self(data)
            if self.endpoint:
                loss = self.compute_loss(*data, loss)
        weights = self.net.trainable_variables
        self.optimizer.apply(tape.gradient(loss, weights), weights)
        return {"loss": loss}


def test_a_loss_that_call_returns_equals_one_device(strategy):
    x, y = problem.arrays(19)
    fit = {"batch_size": 8, "epochs": 2, "shuffle": False, "verbose": 0}
    expected = Returning()
    expected.compile(keras.optimizers.SGD(0.1))
    expected.fit(x, y, **fit)
    model = compiled(strategy, Returning)
    model.fit(x, y, callbacks=[tfdp.callbacks.DataParallel()], **fit)
    assert problem.deviation(model.get_weights(), expected.get_weights()) < 1e-6


def test_a_loss_that_would_be_divided_twice_is_refused(two_replicas):
    model = compiled(two_replicas, lambda: Returning(added=True))
    with pytest.raises(ValueError, match="by the number of replicas once"):
        model.fit(*problem.arrays(8), verbose=0)


def test_a_compute_loss_that_passes_on_what_call_returns_is_sound(two_replicas):
    class Passing(keras.Model):
        def __init__(self):
            super().__init__()
            self.net = stacked()

        def call(self, x):
            y = self.net(x)
            return keras.losses.MeanSquaredError()(x[:, :1], y)

        def compute_loss(self, x=None, y=None, y_pred=None, *_, **__):
            return y_pred

    x, _ = problem.arrays(16)
    fit = {"batch_size": 8, "shuffle": False, "verbose": 0}
    expected = Passing()
    expected.compile(keras.optimizers.SGD(0.1))
    expected.fit(x, **fit)
    model = compiled(two_replicas, Passing)
    assert tfdp.audit(model, (x,)) == []
    model.fit(x, callbacks=[tfdp.callbacks.DataParallel()], **fit)
    assert problem.deviation(model.get_weights(), expected.get_weights()) < 1e-6
