"""The learning rate in the logs is the one that was applied."""

import keras
import numpy as np
import pytest

import tfdp

BATCH = 4
RATES = {
    "number": lambda: 0.5,
    "schedule": lambda: keras.optimizers.schedules.ExponentialDecay(
        0.5, 4, 0.5
    ),
    "warm-up": lambda: tfdp.WarmupSchedule(0.5, 8, initial_rate=0.125),
    "scaled": lambda: tfdp.ScaledSchedule(
        keras.optimizers.schedules.PiecewiseConstantDecay(
            [1, 4], [1.0, 2.0, 3.0]
        ),
        0.25,
    ),
    "function": lambda: lambda: 0.25,
}


class Applied(keras.callbacks.Callback):
    """By how much the last update of each epoch has moved the weight."""

    def __init__(self):
        super().__init__()
        self.rates = []

    def on_train_begin(self, logs=None):
        self._weights = [self._weight()]

    def on_train_batch_end(self, batch, logs=None):
        self._look()

    def on_epoch_end(self, epoch, logs=None):
        self._look()
        self.rates.append(self._weights[-2] - self._weights[-1])

    def _look(self):
        if self._weight() != self._weights[-1]:
            self._weights.append(self._weight())

    def _weight(self):
        return float(self.model.get_weights()[0][0, 0])


def output(label, prediction):
    """A loss whose gradient is that of the output."""
    return prediction + 0 * label


def make_model(optimizer, loss=output):
    """A model of which each gradient is 1."""
    model = keras.Sequential(
        [keras.Input((1,)), keras.layers.Dense(1, use_bias=False)]
    )
    model.compile(optimizer, loss)
    return model


def distributed(inner, steps=1, **options):
    return tfdp.DistributedOptimizer(inner, accumulation_steps=steps, **options)


def fit(model, *callbacks, x=None, epochs=3, edges=True):
    """Three micro-batches in an epoch."""
    x = np.ones((3 * BATCH, 1), "float32") if x is None else x
    applied = Applied()
    first = [tfdp.callbacks.DataParallel()] if edges else []
    callbacks = callbacks or [tfdp.callbacks.LearningRateMonitor()]
    history = model.fit(
        x,
        np.zeros_like(x),
        batch_size=BATCH,
        shuffle=False,
        epochs=epochs,
        verbose=0,
        callbacks=[*first, applied, *callbacks],
    ).history
    return history, applied.rates


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("rate", RATES)
def test_it_is_the_rate_that_was_applied(two_replicas, rate, steps):
    with two_replicas.scope():
        sgd = keras.optimizers.SGD(RATES[rate]())
        model = make_model(distributed(sgd, steps))
    history, applied = fit(model)
    assert history["learning_rate"] == pytest.approx(applied, rel=1e-5)
    assert all(type(each) is float for each in history["learning_rate"])


def test_on_any_number_of_replicas(strategy):
    with strategy.scope():
        sgd = keras.optimizers.SGD(RATES["schedule"]())
        model = make_model(distributed(sgd))
    history, applied = fit(model)
    assert history["learning_rate"] == pytest.approx(applied, rel=1e-5)
    assert history["learning_rate"][0] == pytest.approx(0.5 * 0.5 ** (2 / 4))


@pytest.mark.parametrize("steps", [None, 3])
def test_keras_alone_may_train(steps):
    sgd = keras.optimizers.SGD(
        RATES["schedule"](), gradient_accumulation_steps=steps
    )
    history, applied = fit(make_model(sgd), edges=False)
    assert history["learning_rate"] == pytest.approx(applied, rel=1e-5)
    rate = RATES["schedule"]()
    assert history["learning_rate"][-1] == float(rate(8))


def test_a_skipped_update_has_used_no_rate(two_replicas):
    with two_replicas.scope():
        sgd = keras.optimizers.SGD(RATES["schedule"]())
        model = make_model(distributed(sgd, loss_scale=8.0))
    x = np.ones((3 * BATCH, 1), "float32")
    x[-BATCH:] = np.inf
    history, applied = fit(model, x=x)
    assert history["learning_rate"] == pytest.approx(applied, rel=1e-5)
    assert model.optimizer.iterations.numpy() == 6


def test_before_the_first_update_it_is_that_of_the_first(two_replicas):
    with two_replicas.scope():
        sgd = keras.optimizers.SGD(RATES["warm-up"]())
        model = make_model(distributed(sgd, loss_scale=8.0))
    x = np.full((3 * BATCH, 1), np.inf, "float32")
    monitor = tfdp.callbacks.LearningRateMonitor()
    model.fit(x, x, verbose=0, callbacks=[monitor])
    assert monitor.figures() == {"learning_rate": 0.125}


@pytest.mark.parametrize("rate", ["number", "schedule"])
def test_of_adascale_it_is_what_the_gain_multiplies(two_replicas, rate):
    with two_replicas.scope():
        adascale = tfdp.AdaScale(RATES[rate](), base_batch=BATCH // 2)
        model = make_model(distributed(adascale))
    x = np.random.default_rng(0).normal(size=(3 * BATCH, 1)).astype("float32")
    history, applied = fit(
        model,
        tfdp.callbacks.LearningRateMonitor(),
        tfdp.callbacks.AdaScaleMonitor(),
        x=x,
    )
    gradient = x[-BATCH:].mean()
    rates = np.multiply(history["learning_rate"], history["adascale_gain"])
    assert rates * gradient == pytest.approx(applied, rel=1e-4)
    assert rate == "number" or len(set(history["learning_rate"])) == 3


def test_before_the_first_update_adascale_has_its_first_rate(two_replicas):
    with two_replicas.scope():
        optimizer = distributed(tfdp.AdaScale(RATES["warm-up"](), base_batch=4))
    assert optimizer.inner_optimizer.rate_of_last_update() == 0.125


def test_each_of_several_optimizers_has_its_rate(two_replicas):
    if not hasattr(keras.optimizers, "MultiOptimizer"):
        pytest.skip("Keras has no MultiOptimizer")
    rates = [RATES["schedule"](), 0.25]
    with two_replicas.scope():
        chosen = keras.optimizers.OptimizerMap(
            keras.optimizers.Adam(rates[1]),
            {".*kernel": keras.optimizers.SGD(rates[0])},
        )
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        model.compile(
            distributed(keras.optimizers.MultiOptimizer(chosen)), output
        )
    history, applied = fit(model)
    assert history["learning_rate_0"] == pytest.approx(applied, rel=1e-5)
    assert history["learning_rate_1"] == [0.25] * 3
    assert "learning_rate" not in history


def test_optimizers_may_be_attributes_of_the_model():
    model = make_model(keras.optimizers.SGD(0.5))
    model.second = keras.optimizers.SGD(RATES["schedule"]())
    monitor = tfdp.callbacks.LearningRateMonitor()
    monitor.set_model(model)
    assert monitor.figures() == {"learning_rate_0": 0.5, "learning_rate_1": 0.5}


@pytest.mark.parametrize("comes_first", [True, False])
@pytest.mark.parametrize(
    "changes",
    [
        lambda: keras.callbacks.ReduceLROnPlateau("loss", 0.5, 1, mode="max"),
        lambda: keras.callbacks.LearningRateScheduler(lambda e: 2.0**-e),
    ],
    ids=["plateau", "scheduler"],
)
def test_what_keras_changes_is_logged_once(two_replicas, changes, comes_first):
    with two_replicas.scope():
        model = make_model(distributed(keras.optimizers.SGD(0.5)))
    callbacks = [tfdp.callbacks.LearningRateMonitor(), changes()]
    history, applied = fit(model, *callbacks[:: 1 if comes_first else -1])
    assert history["learning_rate"] == pytest.approx(applied, rel=1e-5)
    assert len(set(applied)) > 1
    assert [key for key in history if "rate" in key] == ["learning_rate"]


class WithoutOptimizer(keras.Sequential):
    def train_step(self, data):
        return {"loss": 0.0}


def test_without_an_optimizer_it_is_refused():
    model = WithoutOptimizer([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(optimizer=None)
    with pytest.raises(
        RuntimeError, match="Received: a WithoutOptimizer without one. Compile"
    ):
        fit(model, edges=False)
