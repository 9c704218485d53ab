"""Rows B: what a strategy does to `fit` and to loops of one's own."""

import keras
import numpy as np
import tensorflow as tf
from sides import (
    BATCH,
    adam,
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

    Test: test_custom_loops.py::
    test_several_steps_per_execution_equal_one_device
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

    Test: compilation/test_compiled_parity.py::
    test_compiled_replicas_equal_one_device
    """
    return side.deviation(sgd, jit_compile=True)


def b6(side):
    """A last batch of 1, which leaves a replica without samples.

    Test: test_parity.py::
    test_training_equals_one_device_with_one_large_batch
    """
    return side.deviation(sgd, 2 * BATCH + 1)


def _hits(side):
    """Logs true positives of a batch, and of the epoch, that has 32."""
    x, y = arrays(BATCH)
    with side.strategy().scope():
        model = keras.Sequential(
            [network(), keras.layers.Activation("sigmoid")]
        )
        hits = keras.metrics.TruePositives(thresholds=0.0, name="hits")
        model.compile(side.optimizer(sgd), "mse", metrics=[hits])
    seen = []
    noting = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(logs["hits"]),
        on_epoch_end=lambda epoch, logs: seen.append(logs["hits"]),
    )
    data = tf.data.Dataset.from_tensors((x, np.ones_like(y)))
    model.fit(data, verbose=0, callbacks=[*side.callbacks, noting])
    return [int(number) for number in seen]


def b12(side):
    """True positives in the log of a batch of 32."""
    return _hits(side)[0]


def b12_epoch(side):
    """True positives in the log of an epoch of that batch."""
    return _hits(side)[1]


def b13(side):
    """Rows that `predict_on_batch` returns for 4.

    Test: test_strategy.py::test_a_batch_given_by_itself_is_shared_out
    """
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


def _of_unknown_length():
    return batches(BATCH // 2).filter(lambda *_: True)


def b18(side):
    """Updates counted in an epoch of 4 batches of unknown number.

    Test: test_end_of_data.py::test_no_state_moves_in_a_step_without_data
    """
    model = side.trained(sgd, _of_unknown_length(), epochs=1)
    return int(model.optimizer.iterations.numpy())


def b18_schedule(side):
    """A learning rate schedule, and batches of unknown number.

    Test: test_end_of_data.py::
    test_an_epoch_of_unknown_length_equals_one_of_known
    """

    def make():
        schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 1, 0.5)
        return keras.optimizers.SGD(schedule)

    oracle = on_one_device(make, batches(BATCH // 2))
    return deviation(side.trained(make, _of_unknown_length()), oracle)


class OwnStep(keras.Model):
    """What most examples of adversaries look like."""

    def __init__(self):
        super().__init__()
        self.net = network()
        self.tracker = keras.metrics.Mean(name="loss")

    def train_step(self, data):
        """Gives its tracker the loss that it differentiates."""
        x, y = data
        with tf.GradientTape() as tape:
            loss = keras.losses.MeanSquaredError()(y, self.net(x))
        weights = self.net.trainable_variables
        gradients = tape.gradient(loss, weights)
        self.optimizer.apply_gradients(zip(gradients, weights, strict=True))
        self.tracker.update_state(loss)
        return {"loss": self.tracker.result()}


class Called(OwnStep):
    """The same, with what plain Keras needs under a strategy."""

    def call(self, x):
        """Calls the network."""
        return self.net(x)


def b30(side):
    """A model with a `train_step` and no `call`.

    Test: parity/test_own_steps.py::
    test_a_step_of_its_own_trains_and_logs_as_on_one_device
    """
    return side.deviation(sgd, make=OwnStep)


def b31(side):
    """A loss that a `train_step` logs, times that of one device.

    Test: parity/test_own_steps.py::
    test_a_step_of_its_own_trains_and_logs_as_on_one_device
    """
    oracle = on_one_device(sgd, batches(), Called, None, epochs=1)
    model = side.trained(sgd, batches(), make=Called, loss=None, epochs=1)
    logged = [each.history.history["loss"][0] for each in (model, oracle)]
    return round(logged[0] / logged[1], 6)


class _OnDevice(keras.layers.Layer):
    """A layer on the second device of a replica, as TensorFlow does it."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def build(self, shape):
        self.inner.build(shape)

    def call(self, inputs):
        context = tf.distribute.get_replica_context()
        if context is None:
            return self.inner(inputs)
        replica = tf.get_static_value(context.replica_id_in_sync_group)
        place = 2 * int(replica) + 1
        with tf.device(f"CPU:{place}"):
            return self.inner(inputs)


def _on_second_devices(side):
    """Two replicas of two devices, and a model with a layer on the second."""
    cpus = tfdp.testing.logical_cpus(4)
    if side.is_tfdp:
        strategy = tfdp.MirroredStrategy(groups=[cpus[:2], cpus[2:]])
    else:
        strategy = tf.distribute.MirroredStrategy(
            [cpus[0], cpus[2]], tf.distribute.ReductionToOneDevice()
        )
    with strategy.scope():
        keras.utils.set_random_seed(1)
        inner = keras.layers.Dense(4)
        placed = tfdp.Stage([inner], 1) if side.is_tfdp else _OnDevice(inner)
        model = keras.Sequential([keras.Input((8,)), placed])
        model.compile(side.optimizer(adam), "mse")
        model.optimizer.build(model.trainable_variables)
    return strategy, model, inner


def b50(side):
    """Of 3 matrix products of a layer on a second device, those not there.

    Plain is by `tf.device`.

    Test: groups/test_groups_parity.py::test_groups_equal_one_device
    """
    strategy, model, _ = _on_second_devices(side)
    data = strategy.experimental_distribute_dataset(batches())
    step = tf.function(lambda d: strategy.run(model.train_step, (d,)))
    graph = step.get_concrete_function(next(iter(data))).graph
    return sum(
        operation.type == "MatMul" and operation.device.endswith("CPU:0")
        for operation in graph.get_operations()
    )


def b50_state(side):
    """There, of its kernel and the two slots of Adam, those not there.

    Test: groups/test_groups_parity.py::test_groups_equal_one_device
    """
    strategy, model, inner = _on_second_devices(side)
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    state = [v for v in optimizer.variables if v.shape == inner.kernel.shape]
    first = [
        strategy.experimental_local_results(each.value)[0]
        for each in (inner.kernel, *state)
    ]
    return sum(not copy.device.endswith("CPU:1") for copy in first)
