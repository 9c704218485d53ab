"""Loops and steps of the user's own, compared with one device."""

import keras
import numpy as np
import problem
import pytest
import tensorflow as tf

import tfdp

EPOCHS = 3


def make(strategy, steps=1, optimizer="adam"):
    with strategy.scope():
        model = problem.make_model()
        distributed = tfdp.DistributedOptimizer(
            problem.OPTIMIZERS[optimizer](), steps
        )
    return model, distributed


def step_of(model, optimizer):
    """As TensorFlow's guide to custom training writes it."""
    strategy = tf.distribute.get_strategy()

    def step(x, y):
        with tf.GradientTape() as tape:
            error = keras.ops.mean(keras.ops.square(model(x) - y))
            loss = (error + sum(model.losses)) / strategy.num_replicas_in_sync
            scaled = optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, model.trainable_variables)
        optimizer.apply_gradients(
            zip(gradients, model.trainable_variables, strict=True)
        )
        return loss

    return step


@pytest.mark.parametrize("in_graph", [True, False], ids=["graph", "eager"])
@pytest.mark.parametrize("steps", [1, 4])
def test_a_loop_over_run_equals_one_device(strategy, steps, in_graph):
    model, optimizer = make(strategy, steps)
    with strategy.scope():
        step = step_of(model, optimizer)
        optimizer.build(model.trainable_variables)

    def on_all(batch):
        return strategy.run(step, args=batch)

    on_all = tf.function(on_all) if in_graph else on_all
    data = strategy.experimental_distribute_dataset(
        problem.dataset(250, problem.GLOBAL_BATCH // steps)
    )
    for _ in range(EPOCHS):
        for batch in data:
            on_all(batch)
        optimizer.flush()
    expected, _ = problem.train_on_one_device(problem.OPTIMIZERS["adam"], 250)
    assert (
        problem.deviation(model.get_weights(), expected.get_weights()) <= 1e-5
    )
    assert int(optimizer.iterations.numpy()) == 12


def test_a_loop_inside_of_a_function_equals_one_device(two_replicas):
    model, optimizer = make(two_replicas, 2)
    with two_replicas.scope():
        step = step_of(model, optimizer)
        optimizer.build(model.trainable_variables)

    @tf.function
    def epoch(batches):
        for _ in tf.range(8):
            two_replicas.run(step, args=next(batches))

    data = two_replicas.experimental_distribute_dataset(
        problem.dataset(256, problem.GLOBAL_BATCH // 2)
    )
    for _ in range(EPOCHS):
        epoch(iter(data))
    expected, _ = problem.train_on_one_device(problem.OPTIMIZERS["adam"], 256)
    assert (
        problem.deviation(model.get_weights(), expected.get_weights()) <= 1e-5
    )


def test_a_distributed_loss_in_a_loop_equals_one_device(two_replicas):
    loss = keras.losses.MeanSquaredError(reduction="mean_with_sample_weight")
    weights = np.linspace(0, 2, 96).astype("float32")
    x, y = problem.arrays(96)

    def train(strategy, loss, optimizer, batch):
        with strategy.scope():
            model = problem.make_model()
            optimizer = optimizer()
            optimizer.build(model.trainable_variables)

        @tf.function
        def on_all(data):
            def step(x, y, weights):
                with tf.GradientTape() as tape:
                    value = loss(y, model(x), weights)
                gradients = tape.gradient(value, model.trainable_variables)
                optimizer.apply(gradients, model.trainable_variables)

            strategy.run(step, args=data)

        data = tf.data.Dataset.from_tensor_slices((x, y, weights)).batch(batch)
        for batch in strategy.experimental_distribute_dataset(data):
            on_all(batch)
        return model.get_weights()

    sgd = problem.OPTIMIZERS["sgd"]
    expected = train(tf.distribute.get_strategy(), loss, sgd, 48)
    actual = train(
        two_replicas,
        tfdp.DistributedLoss(loss),
        lambda: tfdp.DistributedOptimizer(sgd(), 2),
        24,
    )
    assert problem.deviation(actual, expected) <= 1e-6


class Adversaries(keras.Model):
    """Two networks, each with an optimizer and a loss of its own."""

    def __init__(self, make_optimizer):
        super().__init__()
        keras.utils.set_random_seed(1)
        self.maker = keras.Sequential(
            [keras.Input((8,)), keras.layers.Dense(8)]
        )
        self.judge = keras.Sequential(
            [keras.Input((8,)), keras.layers.Dense(1)]
        )
        self.maker_optimizer = make_optimizer()
        self.judge_optimizer = make_optimizer()

    def call(self, x):
        return self.maker(x)

    def train_step(self, data):
        x, _ = data
        replicas = tf.distribute.get_strategy().num_replicas_in_sync

        def mean(values):
            return keras.ops.mean(values) / replicas

        with tf.GradientTape(persistent=True) as tape:
            made = self.judge(self.maker(x))
            judged = mean(
                keras.ops.softplus(made) + keras.ops.softplus(-self.judge(x))
            )
            hidden = mean(keras.ops.softplus(-made))
        for loss, part, optimizer in (
            (judged, self.judge, self.judge_optimizer),
            (hidden, self.maker, self.maker_optimizer),
        ):
            gradients = tape.gradient(loss, part.trainable_variables)
            optimizer.apply(gradients, part.trainable_variables)
        return {"judged": judged, "hidden": hidden}


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("strategy", "steps"), [(1, 3), (2, 1), (4, 3)], indirect=["strategy"]
)
def test_two_optimizers_in_a_step_equal_one_device(strategy, steps):
    """193 samples leave a short cycle, and replicas without samples."""
    make_plain = problem.OPTIMIZERS["adam"]
    expected = Adversaries(make_plain)
    expected.compile()
    fit = {"epochs": EPOCHS, "verbose": 0}
    expected.fit(problem.dataset(193, 48), **fit)
    with strategy.scope():
        model = Adversaries(
            lambda: tfdp.DistributedOptimizer(make_plain(), steps)
        )
        model.compile()
    model.fit(
        problem.dataset(193, 48 // steps),
        callbacks=[tfdp.callbacks.DataParallel()],
        **fit,
    )
    assert (
        problem.deviation(model.get_weights(), expected.get_weights()) <= 1e-5
    )
    assert int(model.maker_optimizer.micro_step.numpy()) == 0


def test_an_optimizer_built_inside_of_a_function_works_or_says_why(
    two_replicas,
):
    model, optimizer = make(two_replicas, 2)
    with two_replicas.scope():
        step = step_of(model, optimizer)

    @tf.function
    def on_all(batch):
        two_replicas.run(step, args=batch)

    data = two_replicas.experimental_distribute_dataset(
        problem.dataset(64, problem.GLOBAL_BATCH // 2)
    )
    for batch in data:
        on_all(batch)
    assert int(optimizer.iterations.numpy()) == 1


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("strategy", "steps", "steps_per_execution"),
    [(1, 1, 2), (2, 2, 3), (4, 2, 2), (4, 1, 3)],
    indirect=["strategy"],
)
def test_several_steps_per_execution_equal_one_device(
    strategy, steps, steps_per_execution
):
    model, optimizer = make(strategy, steps)
    with strategy.scope():
        model.compile(optimizer, "mse", steps_per_execution=steps_per_execution)
    data = problem.dataset(250, problem.GLOBAL_BATCH // steps)
    model.fit(
        data,
        epochs=EPOCHS,
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel()],
    )
    expected, _ = problem.train_on_one_device(problem.OPTIMIZERS["adam"], 250)
    assert (
        problem.deviation(model.get_weights(), expected.get_weights()) <= 1e-5
    )
    for result, oracle in (
        (
            model.evaluate(data, verbose=0),
            expected.evaluate(data, verbose=0)[0],
        ),
        (model.predict(data, verbose=0), expected.predict(data, verbose=0)),
    ):
        np.testing.assert_allclose(result, oracle, rtol=1e-4, atol=1e-5)


@pytest.mark.sampled
@pytest.mark.parametrize("steps", [1, 2])
def test_running_eagerly_equals_one_device(two_replicas, steps):
    model, optimizer = make(two_replicas, steps)
    with two_replicas.scope():
        model.compile(optimizer, "mse", run_eagerly=True)
    model.fit(
        problem.dataset(130, problem.GLOBAL_BATCH // steps),
        epochs=EPOCHS,
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel()],
    )
    expected, _ = problem.train_on_one_device(problem.OPTIMIZERS["adam"], 130)
    assert (
        problem.deviation(model.get_weights(), expected.get_weights()) <= 1e-5
    )


@pytest.mark.sampled
@pytest.mark.parametrize("num_samples", [1, 3, 67])
def test_evaluation_and_prediction_equal_one_device_at_every_size(
    strategy, num_samples
):
    model, optimizer = make(strategy)
    with strategy.scope():
        model.compile(optimizer, "mse", metrics=["mae"])
    expected = problem.make_model()
    expected.compile("sgd", "mse", metrics=["mae"])
    data = problem.dataset(num_samples, 16)
    x, _ = problem.arrays(num_samples)
    for given in (data, x):
        np.testing.assert_allclose(
            model.predict(given, verbose=0, batch_size=None),
            expected.predict(given, verbose=0, batch_size=None),
            atol=1e-6,
        )
    np.testing.assert_allclose(
        model.evaluate(data, verbose=0),
        expected.evaluate(data, verbose=0),
        rtol=1e-5,
    )
