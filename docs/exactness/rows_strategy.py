"""Rows B: what a strategy does to `fit`, to losses and to layers."""

import keras
import numpy as np
import tensorflow as tf
from sides import (
    BATCH,
    FEATURES,
    arrays,
    batches,
    deviation,
    network,
    on_one_device,
    sgd,
)

import tfdp


def b2(side):
    """A first batch of 33, which does not divide by the replicas.

    Test: test_strategy.py::test_a_first_batch_that_does_not_divide_trains
    """
    return side.deviation(sgd, data=lambda batch: batches(33, 66))


def b3(side):
    """`steps_per_execution=2`.

    Test: test_strategy.py::test_several_steps_per_execution_equal_one_device
    """
    strategy = side.strategy(reduction="default")
    return side.deviation(sgd, strategy=strategy, steps_per_execution=2)


def b4(side):
    """4 replicas after 2 in one process.

    Test: test_strategy.py::test_strategies_of_different_sizes_share_a_process
    """
    side.trained(sgd, batches(), side.strategy(2, "default"))
    return side.deviation(sgd, strategy=side.strategy(4, "default"))


def b5(side):
    """`jit_compile=True` on a processor.

    Test: callbacks/test_data_parallel.py::test_compiling_by_xla_is_refused
    """
    return side.deviation(sgd, jit_compile=True)


def b6(side):
    """A last batch of 1, which leaves a replica without samples.

    Test: test_parity.py::
    test_training_equals_one_device_with_one_large_batch
    """
    return side.deviation(sgd, 2 * BATCH + 1)


def _convolution():
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((FEATURES,)),
            keras.layers.Reshape((FEATURES, 1)),
            keras.layers.Conv1D(2, 3),
            keras.layers.Flatten(),
            keras.layers.Dense(1),
        ]
    )


def b7(side):
    """A convolution, and a last batch of 2 for 4 replicas.

    Test: test_strategy.py::test_convolutions_survive_replicas_without_samples
    """
    strategy = side.strategy(4)
    samples = BATCH + 2
    return side.deviation(sgd, samples, strategy=strategy, make=_convolution)


def _normalized():
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((FEATURES,)),
            keras.layers.BatchNormalization(momentum=0.5),
            keras.layers.Dense(1),
        ]
    )


def b7_normalization(side):
    """BatchNormalization, and the same: how many weights are no numbers.

    Test: test_strategy.py::test_statistics_survive_replicas_without_samples
    """
    data = batches(BATCH, BATCH + 2)
    model = side.trained(sgd, data, side.strategy(4), make=_normalized)
    return int(sum(np.isnan(w).sum() for w in model.get_weights()))


def _mean_of_all(y_true, y_pred):
    return keras.ops.mean(keras.ops.square(y_true - y_pred))


class Own(keras.Sequential):
    """A model that computes its loss itself."""

    def compute_loss(self, x=None, y=None, y_pred=None, *_, **__):
        """Returns the mean over the samples at hand."""
        return keras.ops.mean(keras.ops.square(y - y_pred))


def _first_update(model):
    return sum(
        np.abs(after - before).sum()
        for after, before in zip(
            model.get_weights(), network().get_weights(), strict=True
        )
    )


def _factor(side, loss, make=network):
    strategy = side.strategy()
    oracle = on_one_device(sgd, batches(64), make, _mean_of_all, epochs=1)
    actual = side.trained(
        sgd, batches(64), strategy, make=make, loss=loss, epochs=1
    )
    return float(_first_update(actual) / _first_update(oracle))


def b8(side):
    """A loss that returns one scalar, wrapped: times too large an update.

    Test: test_losses.py::test_a_loss_of_the_whole_batch_equals_one_device
    """
    return _factor(side, side.loss(_mean_of_all))


def b8_bare(side):
    """A loss that returns one scalar, as it is: times too large an update.

    Test: test_audit.py::
    test_a_loss_to_wrap_is_an_error_until_it_is_wrapped
    """
    return _factor(side, _mean_of_all)


def b8_own(side):
    """A `compute_loss` that returns one scalar: times too large an update.

    Test: test_audit.py::
    test_a_loss_not_divided_by_the_replicas_is_found_in_data
    """

    def make():
        return Own(network().layers)

    if not side.is_tfdp:
        return _factor(side, None, make)
    with side.strategy().scope():
        model = make()
        model.compile(side.optimizer(sgd))
    return _found(tfdp.audit(model, batches()))


def _found(findings):
    return f"found: {next(iter(findings)).severity}"


def _labelled(batch):
    x, _ = arrays()
    labels = np.random.default_rng(0).integers(-1, 3, len(x))
    labels[:20] = -1
    return tf.data.Dataset.from_tensor_slices((x, labels)).batch(batch)


def _classifier():
    keras.utils.set_random_seed(1)
    return keras.Sequential([keras.Input((FEATURES,)), keras.layers.Dense(3)])


_IGNORING = {"from_logits": True, "ignore_class": -1}


def b9(side):
    """A loss that ignores a class, wrapped.

    Test: test_parity.py::
    test_training_equals_one_device_with_one_large_batch
    """
    loss = keras.losses.SparseCategoricalCrossentropy(**_IGNORING)
    return side.deviation(sgd, data=_labelled, make=_classifier, loss=loss)


def b9_bare(side):
    """A loss that ignores a class, as it is.

    Test: test_audit.py::
    test_a_loss_to_wrap_is_an_error_until_it_is_wrapped
    """
    loss = keras.losses.SparseCategoricalCrossentropy(**_IGNORING)
    strategy = side.strategy()
    oracle = on_one_device(sgd, _labelled(BATCH), _classifier, loss)
    data = _labelled(BATCH)
    actual = side.trained(sgd, data, strategy, make=_classifier, loss=loss)
    return deviation(actual, oracle)


def b9_weights(side):
    """A loss that divides by the sum of sample weights, wrapped.

    Test: test_losses.py::test_a_loss_over_samples_equals_one_device
    """

    def weighted(batch):
        x, y = arrays()
        weights = np.linspace(0, 3, len(x)).astype("float32")
        return tf.data.Dataset.from_tensor_slices((x, y, weights)).batch(batch)

    loss = keras.losses.MeanSquaredError(reduction="mean_with_sample_weight")
    return side.deviation(sgd, data=weighted, loss=loss)


class Scale(keras.layers.Layer):
    """Multiplies each feature by a weight."""

    def build(self, shape):
        """Creates the weights."""
        self.factors = self.add_weight(shape=shape[1:], initializer="ones")

    def call(self, inputs):
        """Multiplies."""
        return inputs * self.factors


def b10(side):
    """Dropout: variance of an update over that of one device.

    Test: test_randomness.py::test_a_fit_draws_different_numbers
    """
    features = 20_000
    strategy = side.strategy()
    data = tf.data.Dataset.from_tensors((tf.ones((4, features)),) * 2)

    def make():
        keras.utils.set_random_seed(1)
        return keras.Sequential(
            [keras.Input((features,)), keras.layers.Dropout(0.5), Scale()]
        )

    fit = {"make": make, "loss": lambda y, p: keras.ops.sum(p, -1), "epochs": 1}
    one = on_one_device(sgd, data, **fit).get_weights()[0]
    actual = side.trained(sgd, data, strategy, **fit).get_weights()[0]
    return float(np.var(actual) / np.var(one))


def b11(side):
    """BatchNormalization: how far apart replicas are in its statistics.

    Test: test_batch_statistics.py::
    test_each_epoch_ends_with_the_mean_over_replicas
    """
    strategy = side.strategy()
    model = side.trained(sgd, batches(), strategy, make=_normalized)
    first, second = (
        local.numpy()
        for local in strategy.experimental_local_results(
            model.layers[0].moving_mean.value
        )
    )
    return float(np.max(np.abs(first - second)))


def b12(side):
    """True positives in the log of a batch that has 32.

    Neither knows: the log of an epoch is right.
    """
    seen = []
    x, y = arrays(BATCH)
    strategy = side.strategy()
    with strategy.scope():
        model = network()
        model.compile(
            side.optimizer(sgd),
            "mse",
            metrics=[keras.metrics.TruePositives(thresholds=-1e9, name="hits")],
        )
    noting = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(logs["hits"])
    )
    data = tf.data.Dataset.from_tensors((x, np.ones_like(y)))
    model.fit(data, verbose=0, callbacks=[*side.callbacks, noting])
    return int(seen[0])


def b13(side):
    """Rows that `predict_on_batch` returns for 4."""
    model = side.trained(sgd, batches())
    return len(model.predict_on_batch(arrays(4)[0]))


def b13_predict(side):
    """Rows that `predict` returns for 4, the documented way.

    Test: test_custom_loops.py::
    test_evaluation_and_prediction_equal_one_device_at_every_size
    """
    model = side.trained(sgd, batches())
    return len(model.predict(arrays(4)[0], verbose=0))


def b14(side):
    """`compile` outside of the scope.

    Test: callbacks/test_data_parallel.py::
    test_compiling_outside_of_the_scope_is_refused
    """
    with side.strategy().scope():
        model = network()
    model.compile(side.optimizer(sgd), "mse")
    model.fit(batches(), verbose=0, callbacks=side.callbacks)
    return deviation(model, on_one_device(sgd, batches(), epochs=1))


def b14_model(side):
    """A model made outside of the scope, and compiled inside.

    Test: test_optimizer.py::test_a_model_made_outside_of_the_scope_is_refused
    """
    model = network()
    with side.strategy().scope():
        model.compile(side.optimizer(sgd), "mse")
    model.fit(batches(), verbose=0, callbacks=side.callbacks)
    return deviation(model, on_one_device(sgd, batches(), epochs=1))


def b15(side):
    """Updates that validation sees of the 2 of an epoch; plain is eager.

    Test: test_optimizer.py::
    test_the_first_short_cycle_is_flushed_before_validation
    """
    seen = []
    noting = keras.callbacks.LambdaCallback()
    noting.on_test_begin = lambda logs=None: seen.append(
        int(noting.model.optimizer.iterations.numpy())
    )
    with side.strategy().scope():
        model = network()
        model.compile(
            side.optimizer(sgd, 2), "mse", run_eagerly=not side.is_tfdp
        )
    model.fit(
        batches(BATCH // 2, BATCH + BATCH // 2),
        validation_data=batches(),
        verbose=0,
        callbacks=[*side.callbacks, noting],
    )
    return seen[0]


def b16(side):
    """A loss that is a sum, wrapped, accumulating; plain is eager.

    Test: test_losses.py::test_a_loss_over_samples_equals_one_device
    """
    return side.deviation(
        lambda **options: sgd(learning_rate=0.002, **options),
        steps=2,
        loss=keras.losses.MeanSquaredError(reduction="sum"),
        eager=True,
    )


def b16_bare(side):
    """A loss that is a sum, as it is.

    Test: callbacks/test_data_parallel.py::
    test_a_sum_over_the_batch_is_refused
    """
    strategy = side.strategy()
    loss = keras.losses.MeanSquaredError(reduction="sum")
    make = lambda: sgd(learning_rate=0.002)  # noqa: E731
    oracle = on_one_device(make, batches(), loss=loss)
    return deviation(side.trained(make, batches(), strategy, loss=loss), oracle)


def _loop(side, hide):
    strategy = side.strategy()
    oracle = on_one_device(sgd, batches(), epochs=1)
    with strategy.scope():
        model = network()
        optimizer = side.optimizer(sgd)
        optimizer.build(model.trainable_variables)

    @tf.function
    def step(x, y):
        with tf.GradientTape() as tape:
            loss = keras.ops.mean(keras.ops.square(model(x) - y)) / 2
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)

    for batch in strategy.experimental_distribute_dataset(batches()):
        strategy.run((lambda *a: step(*a)) if hide else step, args=batch)
    return deviation(model, oracle)


def b17(side):
    """`strategy.run` of a step that is a `tf.function`.

    Test: test_strategy.py::test_run_keeps_a_tf_function_one_function
    """
    return _loop(side, hide=False)


def b17_hidden(side):
    """`strategy.run` of a function that calls a `tf.function`."""
    return _loop(side, hide=True)
