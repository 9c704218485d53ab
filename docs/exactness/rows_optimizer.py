"""Rows A: what the optimizer does to a gradient, and when."""

import tempfile

import keras
import numpy as np
import tensorflow as tf
from sides import (
    BATCH,
    adam,
    batches,
    deviation,
    network,
    on_one_device,
    sgd,
    trained,
)

import tfdp


def a1(side):
    """Accumulation over 2 micro-batches.

    Test: test_parity.py::
    test_training_equals_one_device_with_one_large_batch
    """
    return side.deviation(sgd, steps=2)


def a2(side):
    """A model saved in the middle of a cycle, and trained on; plain is eager.

    Test: test_saving.py::test_a_cycle_goes_on_with_any_number_of_replicas
    """
    strategy = side.strategy()
    oracle = on_one_device(sgd, batches(), epochs=1)
    parts = batches(BATCH // 2)
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/model.keras"

        def save(batch, logs):
            if batch == 2:
                model.save(path)

        saving = keras.callbacks.LambdaCallback(on_train_batch_end=save)
        with strategy.scope():
            model = network()
            model.compile(
                side.optimizer(sgd, 2), "mse", run_eagerly=not side.is_tfdp
            )
        model.fit(parts, verbose=0, callbacks=[*side.callbacks, saving])
        with strategy.scope():
            model = keras.models.load_model(path)
            model.run_eagerly = not side.is_tfdp
    model.fit(parts.skip(3), verbose=0, callbacks=side.callbacks)
    return deviation(model, oracle)


def a3(side):
    """A learning rate schedule, accumulating; plain is eager.

    Test: test_optimizer.py::test_schedules_count_updates
    """

    def make(**options):
        rate = keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)
        return sgd(learning_rate=rate, **options)

    return side.deviation(make, steps=2, eager=True)


def a4(side):
    """3 micro-batches, with 2 of them in an update; plain is eager.

    Test: test_optimizer.py::
    test_the_first_short_cycle_is_flushed_before_validation
    """
    samples = BATCH + BATCH // 2
    return side.deviation(sgd, samples, steps=2, epochs=1, eager=True)


def a5(side):
    """A moving average of the weights, accumulating; plain is eager.

    Test: test_parity.py::
    test_training_equals_one_device_with_one_large_batch
    """

    def make(**options):
        return sgd(use_ema=True, ema_momentum=0.5, **options)

    return side.deviation(make, steps=2, eager=True)


def a5_constraint(side):
    """A constraint of the weights, accumulating; plain is eager.

    Test: test_parity.py::
    test_training_equals_one_device_with_one_large_batch
    """

    def make():
        model = network()
        model.layers[0].kernel_constraint = keras.constraints.MaxNorm(0.5)
        model.layers[0].kernel.constraint = keras.constraints.MaxNorm(0.5)
        return model

    return side.deviation(adam, steps=2, make=make, eager=True)


def a6(side):
    """Clipping by global norm.

    Test: test_optimizer.py::test_clipping_acts_on_the_reduced_gradient
    """
    return side.deviation(lambda: sgd(global_clipnorm=0.05))


def a6_value(side):
    """Clipping by value.

    Test: test_optimizer.py::test_clipping_acts_on_the_reduced_gradient
    """
    return side.deviation(lambda: sgd(clipvalue=0.01))


def a7(side):
    """Weights overwritten by their moving average every 2 updates.

    Test: test_optimizer.py::
    test_averages_overwrite_weights_before_their_constraint
    """
    return side.deviation(
        lambda: sgd(use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=2)
    )


def _after_4_updates(side):
    return side.trained(sgd, batches()).optimizer


def a10(side):
    """`float(optimizer.iterations)` after 4 updates."""
    return float(_after_4_updates(side).iterations)


def a10_numpy(side):
    """`optimizer.iterations.numpy()` after 4 updates, the documented way.

    Test: test_parity.py::
    test_training_equals_one_device_with_one_large_batch
    """
    return int(_after_4_updates(side).iterations.numpy())


def a11(side):
    """A custom loop whose optimizer is built by its first step.

    Test: test_custom_loops.py::
    test_an_optimizer_built_inside_of_a_function_works_or_says_why
    """
    strategy = side.strategy(reduction="default")
    oracle = on_one_device(adam, batches(), epochs=1)
    with strategy.scope():
        model = network()
        optimizer = side.optimizer(adam)

    def step(x, y):
        with tf.GradientTape() as tape:
            loss = keras.ops.mean(keras.ops.square(model(x) - y)) / 2
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)

    @tf.function
    def on_all(batch):
        strategy.run(step, args=batch)

    for batch in strategy.experimental_distribute_dataset(batches()):
        on_all(batch)
    return deviation(model, oracle)


def a12(side):
    """A warm-up before a schedule: largest error of the rate in 3 updates.

    Test: test_learning_rate.py::test_fit_follows_the_schedule
    """
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5)
    ramp = [0.0, 0.025, 0.05]
    rates = []
    rate = schedule
    if side.is_tfdp:
        rate = tfdp.WarmupSchedule(schedule, warmup_updates=4)

    class Warmup(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            optimizer = self.model.optimizer
            if not side.is_tfdp:
                optimizer.learning_rate = ramp[batch]
            rates.append(float(optimizer.learning_rate.numpy()))

    data = batches(BATCH, 3 * BATCH)
    make = lambda: sgd(learning_rate=rate)  # noqa: E731
    side.trained(make, data, epochs=1, callbacks=[Warmup()])
    return float(np.max(np.abs(np.array(rates) - ramp)))


class Halving(keras.optimizers.SGD):
    """Says nothing of its factor in `get_config`."""

    def __init__(self, learning_rate=0.1, factor=1.0, **options):
        super().__init__(learning_rate, **options)
        self.factor = factor

    def update_step(self, gradient, variable, learning_rate):
        """Updates with a part of the gradient."""
        gradient = self.factor * gradient
        super().update_step(gradient, variable, learning_rate)


def a16(side):
    """An optimizer of its own whose `get_config` lacks an argument.

    Test: test_copies.py::test_an_optimizer_of_its_own_equals_one_device
    """
    return side.deviation(lambda: Halving(factor=0.5))


def a17(side):
    """Weight decay that leaves biases out, accumulating; plain is eager.

    Test: test_optimizer.py::test_weight_decay_exclusions_survive_the_copy
    """

    def make(**options):
        optimizer = keras.optimizers.AdamW(0.01, weight_decay=0.5, **options)
        optimizer.exclude_from_weight_decay(var_names=["bias"])
        return optimizer

    return side.deviation(make, steps=2, eager=True)


def a18(side):
    """Nadam whose slots two replicas share out; in plain Keras each has all.

    Test: test_sharded_state.py::test_owners_update_as_one_device
    """

    def make():
        return keras.optimizers.Nadam(0.01, global_clipnorm=0.1)

    def of_side():
        if not side.is_tfdp:
            return make()
        sharded = tfdp.ShardedState()
        return tfdp.DistributedOptimizer(make(), synchronization=sharded)

    model = trained(
        side.strategy(), of_side, batches(), callbacks=side.callbacks
    )
    return deviation(model, on_one_device(make, batches()))
