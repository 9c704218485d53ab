"""LARS: its formula, what it leaves alone, and equality to one device."""

import re

import keras
import numpy as np
import problem
import pytest
import tensorflow as tf

import tfdp

RANDOM = np.random.default_rng(0)
WEIGHT = RANDOM.normal(size=(3, 4)).astype("float32")
GRADIENTS = RANDOM.normal(size=(5, 3, 4)).astype("float32")
RATES = [2.0, 2.0, 0.5, 0.5, 0.5]


def lars(
    weight,
    gradients,
    rates,
    momentum=0.9,
    weight_decay=0.0,
    trust_coefficient=0.001,
    epsilon=0.0,
    nesterov=False,
):
    """Equation 6 and algorithm 1 of the paper, in float64."""
    w, v = np.float64(weight), np.zeros_like(weight, "float64")
    for g, rate in zip(np.float64(gradients), rates, strict=True):
        size, slope = np.sqrt(np.sum(w**2)), np.sqrt(np.sum(g**2))
        local = 1.0
        if size > 0 and slope > 0:
            local = trust_coefficient * size
            local /= slope + weight_decay * size + epsilon
        step = rate * local * (g + weight_decay * w)
        v = momentum * v + step
        w = w - (momentum * v + step if nesterov else v)
    return w


def momentum_sgd(weight, gradients, rates):
    v = 0.0
    for g, rate in zip(np.float64(gradients), rates, strict=True):
        v = 0.9 * v + rate * g
        weight = weight - v
    return weight


def steps(optimizer, weight, gradients, **variable):
    """Returns the weight after one update per gradient, in a graph."""
    variable = keras.Variable(weight, **variable)
    optimizer.build([variable])
    update = tf.function(lambda g: optimizer.apply([g], [variable]))
    for gradient in gradients:
        update(tf.cast(gradient, variable.dtype))
    return variable.numpy()


def schedule():
    return keras.optimizers.schedules.PiecewiseConstantDecay([1], RATES[1:3])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"momentum": 0.0},
        {"weight_decay": 0.1},
        {"trust_coefficient": 0.3, "epsilon": 0.5},
        {"nesterov": True},
        {"nesterov": True, "weight_decay": 0.1, "momentum": 0.5},
    ],
    ids=str,
)
def test_updates_follow_the_paper(options):
    actual = steps(tfdp.LARS(schedule(), **options), WEIGHT, GRADIENTS)
    expected = lars(WEIGHT, GRADIENTS, RATES, **options)
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-6)
    assert np.max(np.abs(actual - WEIGHT)) > 1e-3


def test_the_ratio_has_the_ceiling_that_published_code_documents():
    """ "(eeta / weight_decay) determines the highest scaling factor.\""""
    optimizer = tfdp.LARS(1.0, weight_decay=0.01, trust_coefficient=0.1)
    tiny = 1e-9 * GRADIENTS[:1]
    actual = steps(optimizer, WEIGHT, tiny)
    ceiling = 0.1 / 0.01
    np.testing.assert_allclose(actual, WEIGHT * (1 - ceiling * 0.01), rtol=1e-5)


def test_a_step_does_not_depend_on_the_scale_of_the_gradient():
    small, large = (
        steps(tfdp.LARS(1.0), WEIGHT, factor * GRADIENTS)
        for factor in (1e-3, 1e3)
    )
    np.testing.assert_allclose(small, large, rtol=1e-5)


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_without_a_norm_the_ratio_is_one(decay):
    zeros = np.zeros_like(WEIGHT)
    optimizer = tfdp.LARS(0.5, weight_decay=decay)
    actual = steps(optimizer, zeros, GRADIENTS[:1])
    np.testing.assert_allclose(actual, -0.5 * GRADIENTS[0], rtol=1e-6)
    optimizer = tfdp.LARS(0.5, weight_decay=decay)
    actual = steps(optimizer, WEIGHT, [zeros])
    np.testing.assert_allclose(actual, WEIGHT * (1 - 0.5 * decay), rtol=1e-6)


@pytest.mark.parametrize(
    ("shape", "name"),
    [((), "x"), ((4,), "kernel"), ((3, 4), "bias"), ((3, 4), "gamma")],
)
def test_biases_and_normalisations_are_trained_by_momentum_sgd(shape, name):
    weight = np.broadcast_to(WEIGHT[0, 0], shape) + 1.0
    gradients = [np.broadcast_to(g[0, 0], shape) for g in GRADIENTS]
    optimizer = tfdp.LARS(schedule(), weight_decay=0.3)
    actual = steps(optimizer, weight, gradients, name=name)
    expected = momentum_sgd(weight, gradients, RATES)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_biases_of_layers_are_not_adapted_whatever_their_rank():
    attention = keras.layers.MultiHeadAttention(2, 3)
    attention.build((None, 5, 4), (None, 5, 4))
    norm = keras.layers.LayerNormalization(axis=[1, 2])
    norm.build((None, 5, 4))
    for variable in attention.trainable_weights + norm.trainable_weights:
        optimizer = tfdp.LARS(1.0)
        before = variable.numpy() + 1.0
        variable.assign(before)
        optimizer.apply([tf.ones_like(variable)], [variable])
        is_plain = np.allclose(variable.numpy(), before - 1.0)
        assert is_plain == (variable.name != "kernel"), variable.path


def exclude_name(optimizer, variable):
    optimizer.exclude_from_layer_adaptation(var_names=["no.such", "table"])


def exclude_variable(optimizer, variable):
    optimizer.exclude_from_layer_adaptation(var_list=[variable])


@pytest.mark.parametrize("exclude", [exclude_name, exclude_variable])
def test_others_are_excluded_by_variable_or_name(exclude):
    variables = [
        keras.Variable(WEIGHT, name=name) for name in ("a_table", "a_table_b")
    ]
    optimizer = tfdp.LARS(1.0, weight_decay=0.3)
    exclude(optimizer, variables[0])
    optimizer.apply([tf.constant(GRADIENTS[0])] * 2, variables)
    plain = momentum_sgd(WEIGHT, GRADIENTS[:1], [1.0])
    adapted = lars(WEIGHT, GRADIENTS[:1], [1.0], weight_decay=0.3)
    np.testing.assert_allclose(variables[0].numpy(), plain, atol=1e-6)
    second = plain if exclude is exclude_name else adapted
    np.testing.assert_allclose(variables[1].numpy(), second, atol=1e-6)


def test_keras_exclusions_from_weight_decay_leave_the_ratio():
    variable = keras.Variable(WEIGHT)
    optimizer = tfdp.LARS(1.0, weight_decay=0.3)
    optimizer.exclude_from_weight_decay(var_list=[variable])
    optimizer.apply([tf.constant(GRADIENTS[0])], [variable])
    expected = lars(WEIGHT, GRADIENTS[:1], [1.0])
    np.testing.assert_allclose(variable.numpy(), expected, rtol=1e-6)


def test_slices_of_a_row_are_one_gradient():
    rows = tf.IndexedSlices(tf.ones((3, 4)), tf.constant([2, 0, 2]), (3, 4))
    variable = keras.Variable(WEIGHT)
    optimizer = tfdp.LARS(1.0, weight_decay=0.1)
    for _ in range(2):
        optimizer.apply([rows], [variable])
    dense = [[1.0] * 4, [0.0] * 4, [2.0] * 4]
    expected = lars(WEIGHT, [dense] * 2, [1.0] * 2, weight_decay=0.1)
    np.testing.assert_allclose(variable.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_norms_that_exceed_half_precision_are_computed(dtype):
    weight = np.full((100, 100), 16.0)
    gradient = np.full((100, 100), 512.0)
    optimizer = tfdp.LARS(1.0, trust_coefficient=0.5)
    actual = steps(optimizer, weight, [gradient], dtype=dtype)
    np.testing.assert_array_equal(np.float64(actual), 8.0)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"momentum": 1.0}, ValueError, "must be below 1, or the velocity"),
        ({"momentum": -0.1}, ValueError, "Received: momentum=-0.1."),
        ({"momentum": "0.9"}, TypeError, "Received: momentum='0.9'"),
        ({"weight_decay": -0.1}, ValueError, "Received: weight_decay=-0.1."),
        ({"weight_decay": None}, TypeError, "Received: weight_decay=None"),
        ({"trust_coefficient": 0}, ValueError, "trust_coefficient=0.0."),
        ({"trust_coefficient": True}, TypeError, "trust_coefficient=True"),
        ({"epsilon": float("inf")}, ValueError, "Received: epsilon=inf."),
    ],
)
def test_bad_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=re.escape(message)):
        tfdp.LARS(1.0, **arguments)


def test_exclusions_that_would_do_nothing_are_refused():
    optimizer = tfdp.LARS(1.0)
    with pytest.raises(TypeError, match=r"var_names='bias'. Pass \['bias'\]"):
        optimizer.exclude_from_layer_adaptation(var_names="bias")
    optimizer.apply([tf.ones((2, 2))], [keras.Variable(np.ones((2, 2)))])
    with pytest.raises(RuntimeError, match="after 1 updates. Call this right"):
        optimizer.exclude_from_layer_adaptation(var_names=["bias"])


def make():
    rate = keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.7)
    optimizer = tfdp.LARS(rate, weight_decay=0.05, trust_coefficient=0.5)
    optimizer.exclude_from_layer_adaptation(var_names=["last/kernel"])
    return optimizer


def test_configuration_comes_back():
    optimizer = tfdp.LARS(
        0.5,
        0.8,
        weight_decay=0.1,
        trust_coefficient=0.2,
        epsilon=0.3,
        nesterov=True,
        clipnorm=1.0,
        use_ema=True,
        ema_momentum=0.7,
        ema_overwrite_frequency=3,
        loss_scale_factor=8.0,
        gradient_accumulation_steps=2,
        name="other",
    )
    variable = keras.Variable(WEIGHT, name="table")
    optimizer.exclude_from_layer_adaptation([variable], ["embedding"])
    config = optimizer.get_config()
    assert config["weight_decay"] == 0.1
    assert config["excluded_from_layer_adaptation"] == ["^table$", "embedding"]
    copy = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert type(copy) is tfdp.LARS
    assert copy.get_config() == config


def train(strategy, steps, make=make):
    with strategy.scope():
        model = make_model()
        model.compile(
            tfdp.DistributedOptimizer(
                make(), accumulation_steps=steps, initial_scale=2.0**10
            ),
            "mse",
        )
    model.fit(
        problem.dataset(120, problem.GLOBAL_BATCH // steps),
        epochs=problem.EPOCHS,
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel()],
    )
    return model


def make_model():
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((8,)),
            keras.layers.Dense(16, "tanh", name="first"),
            keras.layers.Dense(1, name="last"),
        ]
    )


def train_on_one_device():
    model = make_model()
    model.compile(make(), "mse")
    data = problem.dataset(120, problem.GLOBAL_BATCH)
    losses = model.fit(data, epochs=problem.EPOCHS, verbose=0).history["loss"]
    assert losses[-1] < 0.8 * losses[0]
    return model.get_weights()


@pytest.fixture(scope="module")
def expected():
    return train_on_one_device()


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("strategy", "steps"), [(1, 4), (2, 1), (4, 4)], indirect=["strategy"]
)
def test_training_equals_one_device_with_one_large_batch(
    strategy, steps, expected
):
    actual = train(strategy, steps).get_weights()
    assert problem.deviation(actual, expected) <= 1e-5


@pytest.mark.sampled
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_follows_float32(two_replicas, policy, expected):
    keras.config.set_dtype_policy(policy)
    actual = train(two_replicas, 4).get_weights()
    assert problem.deviation(actual, expected) <= 5e-3


def test_exclusions_count(two_replicas, expected):
    def make_without():
        config = make().get_config()
        del config["excluded_from_layer_adaptation"]
        return tfdp.LARS.from_config(config)

    actual = train(two_replicas, 1, make_without).get_weights()
    assert problem.deviation(actual, expected) > 0.01


def test_saved_training_goes_on(two_replicas, tmp_path):
    model = train(two_replicas, 2)
    model.save(tmp_path / "saved.keras")
    with two_replicas.scope():
        loaded = keras.models.load_model(tmp_path / "saved.keras")
    for each in (model, loaded):
        each.fit(
            problem.dataset(120, 32),
            verbose=0,
            callbacks=[tfdp.callbacks.DataParallel()],
        )
    actual, again = loaded.get_weights(), model.get_weights()
    assert problem.deviation(actual, again) <= 1e-6


def train_as_worker():
    model = train(tfdp.auto_strategy(), 2)
    return [weight.tolist() for weight in model.get_weights()]


@pytest.mark.long
@pytest.mark.multi_worker
def test_two_workers_equal_one_device(expected):
    for weights in tfdp.testing.run_workers(train_as_worker, 2, timeout=300):
        actual = [np.array(weight) for weight in weights]
        assert problem.deviation(actual, expected) <= 1e-5
