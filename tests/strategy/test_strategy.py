"""What the strategies repair, through Keras, and what they refuse."""

import json
import os
import subprocess
import sys

import keras
import numpy as np
import problem
import pytest
import tensorflow as tf

import tfdp
from tfdp.step.samples import local_samples


def compiled(strategy, steps=1, **arguments):
    with strategy.scope():
        model = problem.make_model()
        optimizer = tfdp.DistributedOptimizer(
            problem.OPTIMIZERS["momentum"](), accumulation_steps=steps
        )
        model.compile(optimizer, "mse", metrics=["mae"], **arguments)
    return model


def image_model():
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            keras.layers.Conv2D(3, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )


def images(num_samples):
    random = np.random.default_rng(0)
    x = random.normal(size=(num_samples, 6, 6, 1)).astype("float32")
    return x, random.integers(0, 3, num_samples)


def test_they_are_tensorflows_own_to_everything_that_asks():
    assert issubclass(tfdp.MirroredStrategy, tf.distribute.MirroredStrategy)
    assert issubclass(
        tfdp.MultiWorkerMirroredStrategy,
        tf.distribute.MultiWorkerMirroredStrategy,
    )


def test_evaluate_and_predict_equal_one_device(strategy):
    model = compiled(strategy)
    plain = problem.make_model()
    plain.compile("sgd", "mse", metrics=["mae"])
    for num_samples in (1, 3, 61, 64):
        data = problem.dataset(num_samples, 16)
        np.testing.assert_allclose(
            model.evaluate(data, verbose=0),
            plain.evaluate(data, verbose=0),
            rtol=1e-5,
        )
        np.testing.assert_allclose(
            model.predict(data, verbose=0),
            plain.predict(data, verbose=0),
            rtol=1e-4,
            atol=1e-6,
        )


@pytest.mark.sampled
@pytest.mark.parametrize("num_samples", [1, 3, 63])
def test_a_first_batch_that_does_not_divide_trains(strategy, num_samples):
    """Plain Keras fails on the shape of the first batch it looks at."""
    model = compiled(strategy)
    data = problem.dataset(num_samples, 64)
    model.fit(data, epochs=3, validation_data=data, verbose=0)
    expected, _ = problem.train_on_one_device(
        problem.OPTIMIZERS["momentum"], num_samples
    )
    actual = model.get_weights()
    assert problem.deviation(actual, expected.get_weights()) <= 1e-6


@pytest.mark.sampled
@pytest.mark.parametrize("num_samples", [65, 66, 1])
def test_convolutions_survive_replicas_without_samples(strategy, num_samples):
    x, y = images(num_samples)
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(64)

    def train(model, optimizer):
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer, loss, metrics=["accuracy"])
        return model.fit(data, epochs=3, validation_data=data, verbose=0)

    expected = image_model()
    oracle = train(expected, keras.optimizers.SGD(0.1)).history
    with strategy.scope():
        model = image_model()
        optimizer = tfdp.DistributedOptimizer(keras.optimizers.SGD(0.1))
        history = train(model, optimizer).history
    assert (
        problem.deviation(model.get_weights(), expected.get_weights()) <= 1e-6
    )
    for key, values in oracle.items():
        np.testing.assert_allclose(history[key], values, rtol=1e-4)
    np.testing.assert_allclose(
        model.predict(data, verbose=0),
        expected.predict(data, verbose=0),
        atol=1e-5,
    )


def test_a_plain_optimizer_learns_nothing_from_a_made_up_row():
    """Only tfdp's gives no weight to a replica without samples."""
    results = []
    for kind in (tf.distribute.MirroredStrategy, tfdp.MirroredStrategy):
        strategy = kind(
            ["CPU:0", "CPU:1", "CPU:2", "CPU:3"],
            cross_device_ops=tf.distribute.ReductionToOneDevice(),
        )
        with strategy.scope():
            model = problem.make_model()
            model.compile(keras.optimizers.SGD(0.1), "mse")
        model.fit(problem.dataset(5, 4), epochs=3, verbose=0)
        results.append(model.get_weights())
    assert problem.deviation(*results) <= 1e-6


def test_statistics_survive_replicas_without_samples(two_replicas):
    with two_replicas.scope():
        model = keras.Sequential(
            [
                keras.Input((8,)),
                keras.layers.BatchNormalization(),
                keras.layers.Dense(1),
            ]
        )
        optimizer = tfdp.DistributedOptimizer(keras.optimizers.SGD(0.1))
        model.compile(optimizer, "mse")
    model.fit(problem.dataset(1, 8), epochs=2, verbose=0)
    means = two_replicas.experimental_local_results(
        model.layers[0].moving_mean.value
    )
    x, _ = problem.arrays(1)
    # Momentum 0.99, twice; the replica without samples saw nothing.
    np.testing.assert_allclose(means[0].numpy(), x[0] * 0.0199, rtol=1e-4)
    np.testing.assert_array_equal(means[1].numpy(), np.zeros(8))


@pytest.mark.long
def test_strategies_of_different_sizes_share_a_process():
    """TensorFlow's default, a ring of collectives, dies at the second."""
    for count in (4, 2, 4, 1):
        strategy = tfdp.MirroredStrategy([f"CPU:{i}" for i in range(count)])
        model = compiled(strategy)
        history = model.fit(problem.dataset(64, 64), verbose=0).history
        assert np.isfinite(history["loss"][0])


def test_the_samples_of_each_replica_are_known_while_it_runs(two_replicas):
    @tf.function
    def step(batch):
        return local_samples()

    data = two_replicas.experimental_distribute_dataset(
        problem.dataset(5, 5).map(lambda x, y: {"x": x, "y": y})
    )
    (batch,) = data
    counts = two_replicas.run(step, args=(batch,))
    values = two_replicas.experimental_local_results(counts)
    assert [float(v) for v in values] == [3.0, 2.0]
    assert local_samples() is None


def test_run_keeps_a_tf_function_one_function(two_replicas):
    """Else its condition opens in the wrong context: merge_call fails."""
    traces = []
    with two_replicas.scope():
        variable = keras.Variable([0.0])
        optimizer = tfdp.DistributedOptimizer(keras.optimizers.SGD(1.0), 2)
        optimizer.build([variable])

    @tf.function
    def step(x):
        traces.append(1)
        optimizer.apply([tf.reduce_mean(x, 0) / 2], [variable])

    x = two_replicas.experimental_distribute_values_from_function(
        lambda c: tf.constant([[1.0], [3.0]])
    )
    for _ in range(4):
        two_replicas.run(step, args=(x,))
    np.testing.assert_allclose(variable.numpy(), [-4.0])
    assert len(traces) == 2


def test_python_conditions_in_a_users_step_still_work(two_replicas):
    @tf.function
    def outer(x):
        def step(x):
            total = tf.constant(2.0)
            if tf.reduce_sum(x) > 1:  # autograph must see this
                total = tf.constant(1.0)
            return total

        return two_replicas.run(step, args=(x,))

    x = two_replicas.experimental_distribute_values_from_function(
        lambda c: tf.constant([float(c.replica_id_in_sync_group * 5)])
    )
    values = two_replicas.experimental_local_results(outer(x))
    assert [float(v) for v in values] == [2.0, 1.0]


@pytest.mark.parametrize(
    "data",
    [
        tf.data.Dataset.range(0).batch(4),
        tf.data.Dataset.range(3).batch(4, drop_remainder=True),
    ],
    ids=["empty", "dropped"],
)
def test_a_dataset_without_batches_is_refused(strategy, data):
    model = compiled(strategy)
    with pytest.raises(ValueError, match="at least one batch. Received"):
        model.fit(data, verbose=0)


def test_auto_strategy_takes_all_logical_cpus(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    strategy = tfdp.auto_strategy()
    assert isinstance(strategy, tfdp.MirroredStrategy)
    assert strategy.num_replicas_in_sync == 4
    assert strategy.is_chief
    assert (strategy.num_workers, strategy.worker_index) == (1, 0)
    strategy.barrier()


def test_auto_strategy_of_a_job_of_one_worker_stays_in_the_process(monkeypatch):
    monkeypatch.setenv(
        "TF_CONFIG",
        '{"cluster": {"worker": ["localhost:1"]},'
        ' "task": {"type": "worker", "index": 0}}',
    )
    assert isinstance(tfdp.auto_strategy(), tfdp.MirroredStrategy)


def test_auto_strategy_refuses_a_malformed_tf_config(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "{worker: me}")
    with pytest.raises(ValueError, match="TF_CONFIG must be JSON"):
        tfdp.auto_strategy()


def test_the_autotuner_is_off_on_few_cores_only(two_replicas, monkeypatch):
    seen = []

    def distribute(self, dataset, options=None):
        seen.append(dataset.options().autotune.enabled)

    monkeypatch.setattr(
        tf.distribute.MirroredStrategy,
        "experimental_distribute_dataset",
        distribute,
    )
    data = tf.data.Dataset.range(4)
    for cores in ({0}, {0, 1}, {0, 1, 2}):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, c=cores: c)
        two_replicas.experimental_distribute_dataset(data)
    assert seen == [False, False, None]


def test_gradients_of_several_workers_travel_in_packs(monkeypatch):
    """One pack would start only when the last gradient is there."""
    local = tfdp.MultiWorkerMirroredStrategy()
    assert local.extended._communication_options.bytes_per_pack == 2 * 2**20
    options = tf.distribute.experimental.CommunicationOptions(bytes_per_pack=7)
    local = tfdp.MultiWorkerMirroredStrategy(communication_options=options)
    assert local.extended._communication_options.bytes_per_pack == 7
    assert local.bytes_per_pack == 7
    monkeypatch.setenv("TFDP_PACK_MIB", "8")
    local = tfdp.MultiWorkerMirroredStrategy()
    assert local.extended._communication_options.bytes_per_pack == 8 * 2**20


def test_a_port_that_is_taken_is_named_before_training(monkeypatch):
    code = (
        "import socket, sys; s = socket.create_server(('', 0));"
        "print(s.getsockname()[1], flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        address = f"localhost:{int(holder.stdout.readline())}"
        cluster = {"worker": [address, "localhost:1"]}
        task = {"type": "worker", "index": 0}
        monkeypatch.setenv(
            "TF_CONFIG", json.dumps({"cluster": cluster, "task": task})
        )
        with pytest.raises(RuntimeError, match=f"{address}, worker 0: Address"):
            tfdp.auto_strategy()
        holder.stdin.close()


@pytest.mark.parametrize("num_samples", [1, 7, 64])
@pytest.mark.parametrize("reduction", ["sum", "sum_over_batch_size"])
def test_a_batch_given_by_itself_is_shared_out(
    strategy, num_samples, reduction
):
    """Every replica would else predict all of it, and add up all of it."""

    def make_model():
        keras.utils.set_random_seed(1)
        return keras.Sequential([keras.Input((8,)), keras.layers.Dense(1)])

    x, y = problem.arrays(num_samples)
    loss = keras.losses.MeanSquaredError(reduction=reduction)
    expected = make_model()
    expected.compile(keras.optimizers.SGD(0.01), loss)
    with strategy.scope():
        model = make_model()
        model.compile(
            tfdp.DistributedOptimizer(keras.optimizers.SGD(0.01)),
            tfdp.DistributedLoss(loss),
        )
    np.testing.assert_allclose(
        model.predict_on_batch(x), expected.predict_on_batch(x), atol=1e-6
    )
    for each in (model, expected):
        each.train_on_batch(x, y)
    assert sum(model.optimizer.samples_by_replica()) == num_samples
    assert (
        problem.deviation(model.get_weights(), expected.get_weights()) <= 1e-6
    )


def test_float64_accumulates_in_float64(two_replicas):
    with two_replicas.scope():
        variable = keras.Variable([0.0], dtype="float64")
        optimizer = tfdp.DistributedOptimizer(keras.optimizers.SGD(1.0), 2)
        optimizer.build([variable])
    tiny = tf.constant([1.0 + 1e-12], tf.float64) / 2
    for _ in range(2):
        two_replicas.run(lambda: optimizer.apply([tiny], [variable]))
    assert abs(float(variable.numpy()[0]) + 1.0 + 1e-12) < 1e-14


@pytest.mark.sampled
@pytest.mark.parametrize("steps", [1, 2])
def test_gradients_through_synchronized_statistics_are_weighed(steps):
    """They reach replicas of another size than that of their loss."""

    def make_model():
        keras.utils.set_random_seed(1)
        return keras.Sequential(
            [
                keras.Input((8,)),
                keras.layers.Dense(8, use_bias=False),
                keras.layers.BatchNormalization(synchronized=True),
                keras.layers.Dense(1, "tanh"),
            ]
        )

    def make_optimizer():
        return keras.optimizers.SGD(0.5)

    # Each micro-batch is the same, so that its statistics are the batch's.
    x, y = (np.tile(part, (2, 1)) for part in problem.arrays(7))
    expected = make_model()
    expected.compile(make_optimizer(), "mse")
    expected.fit(x, y, batch_size=14, shuffle=False, epochs=3, verbose=0)
    strategy = tfdp.MirroredStrategy([f"CPU:{i}" for i in range(4)])
    with strategy.scope():
        model = make_model()
        model.compile(tfdp.DistributedOptimizer(make_optimizer(), steps), "mse")
    model.fit(
        x,
        y,
        batch_size=14 // steps,
        shuffle=False,
        epochs=3,
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel()],
    )
    trained = [
        [v.numpy() for v in each.trainable_variables]
        for each in (model, expected)
    ]
    assert problem.deviation(*trained) <= 1e-6


@pytest.mark.sampled
@pytest.mark.parametrize("num_samples", [65, 66, 1])
def test_convolutions_with_synchronized_statistics_survive_them_too(
    strategy, num_samples
):
    def make(synchronized):
        keras.utils.set_random_seed(1)
        return keras.Sequential(
            [
                keras.Input((6, 6, 1)),
                keras.layers.Conv2D(3, 3, use_bias=False),
                keras.layers.BatchNormalization(synchronized=synchronized),
                keras.layers.Conv2D(2, 3, activation="tanh"),
                keras.layers.Flatten(),
                keras.layers.Dense(3),
            ]
        )

    x, y = images(num_samples)
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(64)

    def train(model, optimizer):
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer, loss, metrics=["accuracy"])
        return model.fit(data, epochs=3, validation_data=data, verbose=0)

    expected = make(False)
    oracle = train(expected, keras.optimizers.SGD(0.1)).history
    with strategy.scope():
        model = make(True)
        optimizer = tfdp.DistributedOptimizer(keras.optimizers.SGD(0.1))
        history = train(model, optimizer).history
    actual, weights = model.get_weights(), expected.get_weights()
    assert problem.deviation(actual, weights) <= 1e-5
    for key, values in oracle.items():
        np.testing.assert_allclose(history[key], values, rtol=1e-4)
