"""Losses that are no mean over samples, compared with one device."""

import keras
import numpy as np
import problem
import pytest
import tensorflow as tf
from grids import later

import tfdp

TOKENS, LENGTH = 7, 5
LONG = pytest.mark.long
LATER_ALONE = pytest.param(1, 3, marks=LONG)
LATER_ON_FOUR = pytest.param(4, 3, marks=LONG)


@pytest.fixture(params=[1, 2, 4], ids=lambda n: f"{n}-replica")
def strategy(request):
    return tfdp.MirroredStrategy([f"CPU:{i}" for i in range(request.param)])


def root_of_mean(y_true, y_pred):
    error = keras.ops.mean(keras.ops.square(y_true - y_pred))
    return keras.ops.sqrt(error + 1e-3)


def mean_of_all(y_true, y_pred):
    return keras.ops.mean(keras.ops.square(y_true - y_pred))


def contrast(y_true, y_pred):
    """Compares every sample with all others."""
    products = y_pred @ keras.ops.transpose(y_pred)
    near = keras.ops.exp(
        -keras.ops.square(y_true - keras.ops.transpose(y_true))
    )
    return keras.ops.logsumexp(products, axis=-1) - keras.ops.sum(
        near * products, axis=-1
    ) / keras.ops.sum(near, axis=-1)


def dice(y_true, y_pred):
    return keras.losses.dice(
        keras.ops.sigmoid(y_true), keras.ops.sigmoid(y_pred)
    )


WHOLE = {
    "scalar": (root_of_mean, "auto"),
    "dice": (dice, "auto"),
    "contrastive": (contrast, "batch"),
    "mean, gathered": ("mse", "batch"),
    "weighted scalar": (root_of_mean, "auto"),
    "weighted mean, gathered": (
        keras.losses.MeanSquaredError(reduction="mean_with_sample_weight"),
        "batch",
    ),
}
PARTED = {
    "sum": (keras.losses.MeanSquaredError(reduction="sum"), "auto"),
    "mean": ("mse", "auto"),
    "scalar mean": (mean_of_all, "samples"),
    "weighted mean": (
        keras.losses.MeanSquaredError(reduction="mean_with_sample_weight"),
        "auto",
    ),
}


def make_model():
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((8,)),
            keras.layers.Dense(8, "tanh"),
            keras.layers.Dense(1),
        ]
    )


def train(strategy, loss, optimizer, data, make=make_model, **compile_args):
    is_ours = isinstance(optimizer, tfdp.DistributedOptimizer)
    with strategy.scope():
        model = make()
        model.compile(optimizer, loss, **compile_args)
    history = model.fit(
        data,
        validation_data=data,
        epochs=3,
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel()] if is_ours else [],
    ).history
    return model, history


def ours(strategy, steps=1, rate=0.002):
    with strategy.scope():
        return tfdp.DistributedOptimizer(keras.optimizers.SGD(rate), steps)


def samples(batch, weighted=False):
    # The last batch of 48 is one sample, which three replicas of four miss.
    x, y = problem.arrays(145)
    weights = np.linspace(0, 3, 145).astype("float32")
    data = (x, y, weights) if weighted else (x, y)
    data = tf.data.Dataset.from_tensor_slices(data)
    return problem.untuned(data.batch(batch))


def assert_equal(ours, one, keys=("loss", "val_loss")):
    (model, history), (expected, oracle) = ours, one
    deviation = problem.deviation(model.get_weights(), expected.get_weights())
    assert deviation <= 1e-6
    for key in keys:
        np.testing.assert_allclose(history[key], oracle[key], rtol=1e-4)


@pytest.mark.sampled
@pytest.mark.parametrize(
    "name", later(WHOLE, ["scalar", "contrastive", "weighted mean, gathered"])
)
def test_a_loss_of_the_whole_batch_equals_one_device(strategy, name):
    loss, over = WHOLE[name]
    weighted = name.startswith("weighted")
    data = samples(48, weighted)
    wrapped = tfdp.DistributedLoss(loss, over=over)
    one = train(
        tf.distribute.get_strategy(), loss, keras.optimizers.SGD(0.002), data
    )
    assert_equal(train(strategy, wrapped, ours(strategy), data), one)


@pytest.mark.sampled
@pytest.mark.parametrize("name", later(PARTED, ["sum", "weighted mean"]))
@pytest.mark.parametrize(
    ("strategy", "steps"),
    [(2, 3), LATER_ALONE, pytest.param(2, 1, marks=LONG), LATER_ON_FOUR],
    indirect=["strategy"],
)
def test_a_loss_over_samples_equals_one_device(strategy, steps, name):
    loss, over = PARTED[name]
    weighted = name.startswith("weighted")
    one = train(
        tf.distribute.get_strategy(),
        loss,
        keras.optimizers.SGD(0.002),
        samples(48, weighted),
    )
    actual = train(
        strategy,
        tfdp.DistributedLoss(loss, over=over),
        ours(strategy, steps),
        samples(48 // steps, weighted),
    )
    # A sum's logs are those of a step, which is not the oracle's.
    keys = ["loss", "val_loss"] if steps == 1 else []
    assert_equal(actual, one, keys)


@pytest.mark.parametrize(
    ("strategy", "steps"),
    [(2, 1), LATER_ALONE, LATER_ON_FOUR],
    indirect=["strategy"],
)
def test_a_mask_that_layers_hand_on_equals_one_device(strategy, steps):
    def make():
        keras.utils.set_random_seed(1)
        inputs = keras.Input((LENGTH,), dtype="int32")
        hidden = keras.layers.Embedding(TOKENS, 4, mask_zero=True)(inputs)
        hidden = keras.layers.LSTM(4, return_sequences=True)(hidden)
        return keras.Model(inputs, keras.layers.Dense(TOKENS)(hidden))

    random = np.random.default_rng(0)
    tokens = random.integers(1, TOKENS, (145, LENGTH))
    tokens *= np.arange(LENGTH) < random.integers(0, LENGTH + 1, (145, 1))
    data = tf.data.Dataset.from_tensor_slices((tokens, tokens))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    one = train(
        tf.distribute.get_strategy(),
        loss,
        keras.optimizers.SGD(0.1),
        problem.untuned(data.batch(48)),
        make,
    )
    actual = train(
        strategy,
        tfdp.DistributedLoss(loss),
        ours(strategy, steps, rate=0.1),
        problem.untuned(data.batch(48 // steps)),
        make,
    )
    assert_equal(actual, one, ["loss", "val_loss"] if steps == 1 else [])


class Penalty(keras.layers.Layer):
    """Adds a loss of its own, a mean over samples."""

    def call(self, x):
        self.add_loss(0.5 * keras.ops.mean(keras.ops.square(x)))
        return x


def penalized():
    keras.utils.set_random_seed(1)
    hidden = keras.layers.Dense(
        8, "tanh", kernel_regularizer="l2", activity_regularizer="l2"
    )
    return keras.Sequential(
        [keras.Input((8,)), hidden, keras.layers.Dense(1), Penalty()]
    )


BESIDE = {
    "sum": (keras.losses.MeanSquaredError(reduction="sum"), "auto", False),
    "weighted mean": (
        keras.losses.MeanSquaredError(reduction="mean_with_sample_weight"),
        "auto",
        True,
    ),
    "scalar": (root_of_mean, "auto", False),
    "contrastive": (contrast, "batch", False),
}


@pytest.mark.sampled
@pytest.mark.parametrize("name", later(BESIDE, ["weighted mean", "scalar"]))
def test_what_layers_add_beside_a_loss_is_exact(strategy, name):
    loss, over, weighted = BESIDE[name]
    data = samples(48, weighted)
    one = train(
        tf.distribute.get_strategy(),
        loss,
        keras.optimizers.SGD(0.002),
        data,
        penalized,
    )
    wrapped = tfdp.DistributedLoss(loss, over=over)
    optimizer = ours(strategy)
    assert_equal(train(strategy, wrapped, optimizer, data, penalized), one)


def two_outputs():
    keras.utils.set_random_seed(1)
    x = keras.Input((8,))
    hidden = Penalty()(keras.layers.Dense(8, "tanh")(x))
    heads = {name: keras.layers.Dense(1, name=name)(hidden) for name in "ab"}
    return keras.Model(x, heads)


@pytest.mark.parametrize("other", later(["mse", root_of_mean], [root_of_mean]))
def test_several_losses_of_different_kinds_are_exact(strategy, other):
    data = samples(48).map(lambda x, y: (x, {"a": y, "b": y}))
    a = keras.losses.MeanSquaredError(reduction="sum")
    one = train(
        tf.distribute.get_strategy(),
        {"a": a, "b": other},
        keras.optimizers.SGD(0.002),
        data,
        two_outputs,
    )
    b = other if other == "mse" else tfdp.DistributedLoss(other)
    losses = {"a": tfdp.DistributedLoss(a), "b": b}
    actual = train(strategy, losses, ours(strategy), data, two_outputs)
    assert_equal(actual, one)


def test_what_layers_add_beside_a_loss_is_refused_accumulating(two_replicas):
    def make():
        return keras.Sequential([*make_model().layers, Penalty()])

    wrapped = tfdp.DistributedLoss(
        keras.losses.MeanSquaredError(reduction="sum")
    )
    with pytest.raises(ValueError, match="beside what layers have added by"):
        train(two_replicas, wrapped, ours(two_replicas, 2), samples(24), make)


def test_a_weight_beside_the_loss_counts(two_replicas):
    """`loss_weights` scales what the loss returns, gradient and value."""
    data = samples(48)
    one = train(
        tf.distribute.get_strategy(),
        root_of_mean,
        keras.optimizers.SGD(0.002),
        data,
        loss_weights=[3.0],
    )
    wrapped = tfdp.DistributedLoss(root_of_mean)
    actual = train(
        two_replicas, wrapped, ours(two_replicas), data, loss_weights=[3.0]
    )
    assert_equal(actual, one)


def test_accumulating_a_loss_of_the_whole_batch_is_refused(two_replicas):
    wrapped = tfdp.DistributedLoss(root_of_mean)
    with pytest.raises(ValueError, match="while gradients accumulate. Use"):
        train(two_replicas, wrapped, ours(two_replicas, 2), samples(24))


def masked_mean(y_true, y_pred):
    mask = keras.ops.cast(y_true > 0, y_pred.dtype)
    errors = keras.ops.square(y_true - y_pred)
    return keras.ops.sum(mask * errors) / keras.ops.sum(mask)


def test_a_loss_that_divides_by_its_mask_accumulates_as_the_refusal_says(
    two_replicas,
):
    one = train(
        tf.distribute.get_strategy(),
        masked_mean,
        keras.optimizers.SGD(0.002),
        samples(48),
    )
    with pytest.raises(ValueError, match="wrong for a loss that divides by a"):
        train(
            two_replicas,
            tfdp.DistributedLoss(masked_mean),
            ours(two_replicas, 2),
            samples(24),
        )
    masked = samples(24).map(
        lambda x, y: (x, y, tf.cast(y[:, 0] > 0, tf.float32))
    )
    wrapped = tfdp.DistributedLoss(
        keras.losses.MeanSquaredError(reduction="mean_with_sample_weight")
    )
    actual = train(two_replicas, wrapped, ours(two_replicas, 2), masked)
    assert_equal(actual, one, keys=())


def test_weights_of_samples_beside_a_scalar_are_refused(two_replicas):
    wrapped = tfdp.DistributedLoss(mean_of_all, over="samples")
    with pytest.raises(ValueError, match="sample weights for mean_of_all"):
        train(two_replicas, wrapped, ours(two_replicas), samples(48, True))


def test_two_denominators_in_a_step_are_refused(two_replicas):
    loss = keras.losses.MeanSquaredError(reduction="mean_with_sample_weight")
    wrapped = [tfdp.DistributedLoss(loss) for _ in range(2)]

    def step():
        with tf.GradientTape() as tape:
            one, weight = tf.ones((2, 1)), tf.ones((2,))
            total = sum(w(one, variable * one, weight) for w in wrapped)
        optimizer.apply(tape.gradient(total, [variable.value]), [variable])

    with two_replicas.scope():
        variable = keras.Variable(2.0)
        optimizer = tfdp.DistributedOptimizer(keras.optimizers.SGD(0.1))
        optimizer.build([variable])
    with pytest.raises(ValueError, match="Received: 2 losses, each of which"):
        two_replicas.run(step)


def test_a_strategy_that_does_not_count_is_refused():
    plain = tf.distribute.MirroredStrategy(
        ["CPU:0", "CPU:1"],
        cross_device_ops=tf.distribute.ReductionToOneDevice(),
    )
    wrapped = tfdp.DistributedLoss(root_of_mean)
    with pytest.raises(RuntimeError, match="Received: MirroredStrategy. Use a"):
        train(plain, wrapped, keras.optimizers.SGD(0.1), samples(48))


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("loss", "over"), [*WHOLE.values(), *PARTED.values()], ids=[*WHOLE, *PARTED]
)
def test_without_a_strategy_it_is_the_loss_it_wraps(loss, over):
    data = samples(48)
    one, actual = (
        train(
            tf.distribute.get_strategy(),
            each,
            keras.optimizers.SGD(0.002),
            data,
        )
        for each in (loss, tfdp.DistributedLoss(loss, over=over))
    )
    assert_equal(actual, one)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"loss": None}, "Received: loss=None"),
        ({"loss": "no such loss"}, "no such loss"),
        ({"loss": "mse", "over": "replicas"}, "over='replicas'"),
        (
            {"loss": keras.losses.MeanSquaredError(reduction="none")},
            "mean_squared_error with reduction='none'",
        ),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        tfdp.DistributedLoss(**arguments)
