"""Equal to one device, with two devices to a replica."""

import keras
import numpy as np
import pytest
from staged import (
    GROUPS,
    OPTIMIZERS,
    arrays,
    dataset,
    deviation,
    devices,
    plain,
    products,
    staged,
)

import tfdp

BATCH = 32


@pytest.fixture
def groups():
    return tfdp.MirroredStrategy(groups=GROUPS)


def on_one_device(optimizer, make_model=plain, data=None, epochs=2):
    model = make_model()
    model.compile(optimizer(), "mse")
    history = model.fit(
        dataset(BATCH, data),
        epochs=epochs,
        verbose=0,
        validation_data=dataset(BATCH, data),
    ).history
    return model, history


def in_groups(
    strategy, optimizer, make_model, data=None, steps=1, epochs=2, **fit
):
    with strategy.scope():
        model = make_model()
        model.compile(tfdp.DistributedOptimizer(optimizer(), steps), "mse")
    history = model.fit(
        dataset(BATCH // steps, data),
        epochs=epochs,
        verbose=0,
        validation_data=dataset(BATCH, data),
        **fit,
    ).history
    return model, history


@pytest.mark.parametrize(
    ("name", "micro_batches", "steps"),
    [
        ("adam", 2, 2),
        pytest.param("momentum", 1, 1, marks=pytest.mark.long),
        pytest.param("adamw", 4, 1, marks=pytest.mark.long),
        pytest.param("adam", 4, 2, marks=pytest.mark.long),
        pytest.param("momentum", 4, 2, marks=pytest.mark.long),
        pytest.param("adamw", 1, 2, marks=pytest.mark.long),
        pytest.param("adam", 1, 1, marks=pytest.mark.long),
    ],
)
def test_groups_equal_one_device(groups, name, micro_batches, steps):
    # Of 97 samples the last batch has one: a replica is left without.
    expected, expected_history = on_one_device(OPTIMIZERS[name])
    model, history = in_groups(
        groups,
        OPTIMIZERS[name],
        lambda: staged(micro_batches),
        steps=steps,
        callbacks=[tfdp.callbacks.DataParallel()],
    )
    assert deviation(model.get_weights(), expected.get_weights()) <= 1e-6
    for key in ("val_loss", "loss") if steps == 1 else ("val_loss",):
        assert deviation(history[key], expected_history[key]) <= 1e-6
    x, _ = arrays()
    predicted = model.predict(x[:33], verbose=0)
    assert deviation([predicted], [expected.predict(x[:33], verbose=0)]) <= 1e-6
    check_places(groups, model)
    # Of two layers in a stage and each micro-batch, forward and backward: of
    # weights, and of what the stage was given.
    count = 2 * micro_batches * 3
    assert products(groups, model, dataset(BATCH)) == dict.fromkeys(
        ["CPU:0", "CPU:1", "CPU:2", "CPU:3"], count
    )


def check_places(groups, model):
    """Weights and slots are on the device of their stage."""
    (pipeline,) = model.layers
    places = ["CPU:0", "CPU:2"], ["CPU:1", "CPU:3"]
    for stage, expected in zip(pipeline.stages, places, strict=True):
        kernel = stage.layers[0].kernel
        slots = [
            variable
            for variable in model.optimizer.inner_optimizer.variables
            if variable.shape == kernel.shape
        ]
        assert slots
        for variable in [kernel, *slots]:
            assert devices(groups, variable) == expected


def normalized():
    return [
        [
            # Adam makes a step of the rounding of a bias without a gradient.
            keras.layers.Dense(6, use_bias=False),
            keras.layers.BatchNormalization(synchronized=True),
        ],
        [keras.layers.Dense(4, "tanh"), keras.layers.Dense(1)],
    ]


def test_synchronized_statistics_in_a_stage_are_those_of_one_device(groups):
    adam = OPTIMIZERS["adam"]
    expected, _ = on_one_device(adam, lambda: plain(normalized))
    model, _ = in_groups(
        groups,
        adam,
        lambda: staged(1, normalized),
        callbacks=[tfdp.callbacks.DataParallel()],
    )
    assert deviation(model.get_weights(), expected.get_weights()) <= 1e-6


def hidden():
    return [
        [keras.layers.Dense(12, "tanh"), keras.layers.Dense(6, "tanh")],
        [keras.layers.Dense(4, "tanh"), keras.layers.Dense(1)],
    ]


@pytest.mark.long
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_in_groups_is_that_of_replicas_alone(groups, policy):
    keras.config.set_dtype_policy(policy)
    replicas = tfdp.MirroredStrategy(["CPU:0", "CPU:1"])
    callbacks = [tfdp.callbacks.DataParallel()]
    (expected, _), (model, _) = (
        in_groups(strategy, OPTIMIZERS["adam"], make, callbacks=callbacks)
        for strategy, make in (
            (replicas, lambda: plain(hidden)),
            (groups, lambda: staged(1, hidden)),
        )
    )
    assert model.layers[0].stages[1].layers[0].compute_dtype == policy[6:]
    assert deviation(model.get_weights(), expected.get_weights()) <= 1e-6


def masked():
    return [
        [keras.layers.Embedding(6, 4, mask_zero=True), keras.layers.Dense(3)],
        [keras.layers.GlobalAveragePooling1D(), keras.layers.Dense(1)],
    ]


def test_masks_pass_through_stages_and_micro_batches(groups):
    tokens = np.random.default_rng(0).integers(0, 6, size=(65, 5))
    data = tokens, arrays(65)[1]

    def model(make):
        return lambda: make(make=masked, inputs=(5,), dtype="int32")

    def in_two(**arguments):
        return staged(2, **arguments)

    sgd = OPTIMIZERS["momentum"]
    expected, history = on_one_device(sgd, model(plain), data, epochs=1)
    unmasked = expected.predict(np.where(tokens == 0, 1, tokens), verbose=0)
    assert deviation([unmasked], [expected.predict(tokens, verbose=0)]) > 1e-3
    trained, own = in_groups(groups, sgd, model(in_two), data, epochs=1)
    assert deviation(trained.get_weights(), expected.get_weights()) <= 1e-6
    assert deviation(own["val_loss"], history["val_loss"]) <= 1e-6


def convolutional():
    return [
        [keras.layers.Reshape((8, 1)), keras.layers.Conv1D(3, 3, "relu")],
        [keras.layers.Flatten(), keras.layers.Dense(1)],
    ]


@pytest.mark.long
def test_a_replica_without_samples_and_empty_micro_batches_count_nothing(
    groups,
):
    # The kernel of a convolution fails on no rows.
    data = arrays(65)
    sgd = OPTIMIZERS["momentum"]
    expected, history = on_one_device(
        sgd, lambda: plain(convolutional), data, epochs=1
    )
    trained, own = in_groups(
        groups, sgd, lambda: staged(4, convolutional), data, epochs=1
    )
    assert deviation(trained.get_weights(), expected.get_weights()) <= 1e-6
    assert deviation(own["val_loss"], history["val_loss"]) <= 1e-6


class Subclassed(keras.Model):
    """Keras makes its weights when it has gone through it for shapes."""

    def __init__(self, parts):
        super().__init__()
        self.parts = parts

    def call(self, inputs):
        for part in self.parts:
            inputs = part(inputs)
        return inputs


def test_weights_that_keras_makes_late_and_made_before_are_on_their_stage(
    groups,
):
    def parts():
        keras.utils.set_random_seed(1)
        # The second has made its weights when the stage is given it.
        return [
            [keras.layers.Dense(4, "tanh")],
            [keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])],
        ]

    def without():
        return Subclassed([layer for part in parts() for layer in part])

    def within():
        return Subclassed(
            [tfdp.Stage(part, i) for i, part in enumerate(parts())]
        )

    sgd = OPTIMIZERS["momentum"]
    expected, _ = on_one_device(sgd, without, epochs=1)
    trained, _ = in_groups(groups, sgd, within, epochs=1)
    assert deviation(trained.get_weights(), expected.get_weights()) <= 1e-6
    assert [devices(groups, weight) for weight in trained.weights] == [
        ["CPU:0", "CPU:2"],
        ["CPU:0", "CPU:2"],
        ["CPU:1", "CPU:3"],
        ["CPU:1", "CPU:3"],
    ]
    # Each stage has one layer, with three products.
    assert products(groups, trained, dataset(BATCH)) == dict.fromkeys(
        ["CPU:0", "CPU:1", "CPU:2", "CPU:3"], 3
    )


class KillAfter(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if batch == 2:
            raise KeyboardInterrupt


@pytest.mark.long
def test_a_killed_training_goes_on_as_if_it_had_not_been(groups, tmp_path):
    def fit(*callbacks, backup):
        with groups.scope():
            model = staged(2)
            model.compile(
                tfdp.DistributedOptimizer(OPTIMIZERS["adam"](), 2), "mse"
            )
        backup = tfdp.callbacks.BackupAndRestore(tmp_path / backup, save_freq=1)
        model.fit(
            dataset(BATCH // 2),
            epochs=2,
            verbose=0,
            callbacks=[tfdp.callbacks.DataParallel(), *callbacks, backup],
        )
        return model

    undisturbed = fit(backup="undisturbed")
    with pytest.raises(KeyboardInterrupt):
        fit(KillAfter(), backup="killed")
    resumed = fit(backup="killed")
    assert deviation(resumed.get_weights(), undisturbed.get_weights()) == 0
    check_places(groups, resumed)


@pytest.mark.long
def test_a_saved_model_is_loaded_with_and_without_groups(groups, tmp_path):
    model, _ = in_groups(
        groups, OPTIMIZERS["adam"], lambda: staged(2), epochs=1
    )
    path = tmp_path / "model.keras"
    model.save(path)
    x, _ = arrays()
    expected = model.predict(x, verbose=0)
    with groups.scope():
        within = keras.models.load_model(path)
    without = keras.models.load_model(path)
    for loaded in (within, without):
        predicted = loaded.predict(x, verbose=0)
        assert deviation([predicted], [expected]) <= 1e-6
        loaded.fit(dataset(BATCH), verbose=0)
    assert deviation(within.get_weights(), without.get_weights()) <= 1e-6
    check_places(groups, within)


@pytest.mark.multi_worker
@pytest.mark.parametrize(
    ("name", "micro_batches", "steps"),
    [
        ("adam", 2, 2),
        pytest.param("adam", 4, 2, marks=pytest.mark.long),
        pytest.param("momentum", 1, 1, marks=pytest.mark.long),
        pytest.param("adamw", 4, 1, marks=pytest.mark.long),
    ],
)
def test_workers_with_two_devices_equal_one_device(name, micro_batches, steps):
    expected, _ = on_one_device(OPTIMIZERS[name])
    reports = tfdp.testing.run_workers(
        train_on_worker, 2, [name, micro_batches, steps]
    )
    for task, report in enumerate(reports):
        weights = [np.array(w) for w in report["weights"]]
        assert deviation(weights, expected.get_weights()) <= 1e-6
        assert report["devices"] == [
            f"task:{task}/device:CPU:0",
            f"task:{task}/device:CPU:1",
        ]


def train_on_worker(name, micro_batches, steps):
    tfdp.testing.logical_cpus(2)
    strategy = tfdp.MultiWorkerMirroredStrategy(devices_per_replica=2)
    model, _ = in_groups(
        strategy,
        OPTIMIZERS[name],
        lambda: staged(micro_batches),
        steps=steps,
        callbacks=[tfdp.callbacks.DataParallel()],
    )
    kernels = [stage.layers[0].kernel for stage in model.layers[0].stages]
    (first,), (second,) = (
        strategy.experimental_local_results(kernel.value) for kernel in kernels
    )
    return {
        "weights": [w.tolist() for w in model.get_weights()],
        "devices": [
            copy.device.partition("replica:0/")[2] for copy in (first, second)
        ],
    }
