"""An optimizer of the user's own trains under tfdp as it does in Keras."""

import functools

import keras
import numpy as np
import problem
import pytest

import tfdp


class Scaled(keras.optimizers.SGD):
    """Says nothing of its factor in `get_config`."""

    def __init__(self, learning_rate=0.01, factor=1.0, **kwargs):
        super().__init__(learning_rate, **kwargs)
        self.factor = factor

    def update_step(self, gradient, variable, learning_rate):
        super().update_step(self.factor * gradient, variable, learning_rate)


class Strict(Scaled):
    """Takes nothing of what `get_config` says."""

    def __init__(self, factor):
        super().__init__(0.05, factor, momentum=0.5, clipnorm=0.9)


class NoConfig(Strict):
    def get_config(self):
        raise NotImplementedError


class WithoutRate(Scaled):
    def get_config(self):
        return {"name": self.name, "factor": self.factor}


class ByFunction(Scaled):
    def __init__(self, change=lambda gradient: gradient, **kwargs):
        super().__init__(0.05, **kwargs)
        self.change = change

    def update_step(self, gradient, variable, learning_rate):
        super().update_step(self.change(gradient), variable, learning_rate)


class ByMethod(Scaled):
    def __init__(self, learning_rate=0.05, is_half=False, **kwargs):
        super().__init__(learning_rate, **kwargs)
        self.is_half = is_half
        self.change = self.half if is_half else self.whole

    def half(self, gradient):
        return gradient / 2

    def whole(self, gradient):
        return gradient

    def get_config(self):
        return {**super().get_config(), "is_half": self.is_half}

    def update_step(self, gradient, variable, learning_rate):
        super().update_step(self.change(gradient), variable, learning_rate)


class ByObject(Scaled):
    class Factors:
        def __init__(self, **factors):
            self.factors = factors

    def __init__(self, learning_rate=0.05, factors=None, **kwargs):
        super().__init__(learning_rate, **kwargs)
        self.held = [factors or self.Factors(all=1.0)]
        self.factor = keras.Variable(self.held[0].factors["all"])


class Looking(keras.optimizers.Optimizer):
    """Has another optimizer make the update, as Lookahead does."""

    def __init__(self, inner=None, learning_rate=0.05, **kwargs):
        super().__init__(learning_rate, **kwargs)
        self.held = {"inner": inner or keras.optimizers.SGD(0.01)}

    def build(self, variables):
        super().build(variables)
        self.held["inner"].build(variables)

    def apply(self, grads, trainable_variables=None):
        self.held["inner"].apply(grads, trainable_variables)
        self.iterations.assign_add(1)


def half(gradient, by=2.0):
    return gradient / by


def changed_later():
    optimizer = Scaled(0.05)
    optimizer.factor = 0.5
    optimizer.clipnorm = 0.1
    return optimizer


def decay():
    return keras.optimizers.schedules.ExponentialDecay(0.1, 4, 0.5)


OWN = {
    "argument": lambda: Scaled(0.05, factor=0.5),
    "no argument taken": lambda: Strict(0.5),
    "no configuration": lambda: NoConfig(0.5),
    "rate left out": lambda: WithoutRate(0.07, 0.5),
    "schedule left out": lambda: WithoutRate(decay(), 0.5),
    "set later": changed_later,
    "function": lambda: ByFunction(half),
    "closure": lambda: ByFunction((lambda by: lambda g: g / by)(3.0)),
    "partial": lambda: ByFunction(functools.partial(half, by=4.0)),
    "method": lambda: ByMethod(is_half=True),
    "object": lambda: ByObject(factors=ByObject.Factors(all=0.5)),
    "optimizer inside": lambda: Looking(Strict(0.5)),
}


@pytest.fixture(params=OWN)
def make_optimizer(request):
    return OWN[request.param]


def one_device(make_optimizer):
    model, _ = problem.train_on_one_device(make_optimizer, 128, epochs=1)
    return model.get_weights()


def trained(strategy, optimizer, steps):
    with strategy.scope():
        model = problem.make_model()
        model.compile(optimizer, "mse")
    model.fit(
        problem.dataset(128, problem.GLOBAL_BATCH // steps),
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel()],
    )
    return model.get_weights()


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("strategy", "steps"), [(1, 1), (2, 1), (4, 2)], indirect=["strategy"]
)
def test_an_optimizer_of_its_own_equals_one_device(
    strategy, steps, make_optimizer
):
    with strategy.scope():
        optimizer = tfdp.DistributedOptimizer(make_optimizer(), steps)
    actual = trained(strategy, optimizer, steps)
    assert problem.deviation(actual, one_device(make_optimizer)) <= 1e-6


def test_an_optimizer_serves_two_wrappers(two_replicas):
    """Each has a copy, wherever it was made, and it stays what it was."""
    given = Strict(0.5)
    expected = one_device(lambda: Strict(0.5))
    for _ in range(2):
        with two_replicas.scope():
            optimizer = tfdp.DistributedOptimizer(given)
        actual = trained(two_replicas, optimizer, 1)
        assert problem.deviation(actual, expected) <= 1e-6
    assert not given.built
    assert optimizer.inner_optimizer.name == given.name


def test_a_copy_that_would_refer_to_the_original_is_refused():
    class Closing(Strict):
        def __init__(self, factor):
            super().__init__(factor)
            self.change = lambda: self.iterations

    with pytest.raises(
        TypeError, match=r"Received: Closing, whose copy would lose `change`"
    ):
        tfdp.DistributedOptimizer(Closing(0.5))


def test_a_closure_over_the_optimizer_is_made_anew_by_its_constructor():
    class Closing(Scaled):
        def __init__(self, learning_rate=0.01, factor=1.0, **kwargs):
            super().__init__(learning_rate, factor, **kwargs)
            self.own = lambda: self

    inner = tfdp.DistributedOptimizer(Closing(0.1, 0.5)).inner_optimizer
    assert inner.own() is inner
    assert inner.factor == 0.5


def test_several_optimizers_in_one_keep_their_arguments(two_replicas):
    if not hasattr(keras.optimizers, "MultiOptimizer"):
        pytest.skip("new in Keras 3.13")

    def make():
        chosen = keras.optimizers.OptimizerMap(
            Strict(0.5), {"bias": Scaled(0.05, 0.25)}
        )
        return keras.optimizers.MultiOptimizer(chosen)

    with two_replicas.scope():
        optimizer = tfdp.DistributedOptimizer(make())
    actual = trained(two_replicas, optimizer, 1)
    assert problem.deviation(actual, one_device(make)) <= 1e-6


def test_a_scaled_optimizer_keeps_its_arguments():
    plan = tfdp.BatchPlan(
        global_batch=512, per_replica_batch=512, num_replicas=1
    )
    for given in (Strict(0.5), tfdp.DistributedOptimizer(Strict(0.5))):
        scaled = tfdp.scale_learning_rate(given, plan, "linear", verbose=False)
        inner = getattr(scaled, "inner_optimizer", scaled)
        assert type(inner) is Strict
        assert (inner.factor, inner.momentum) == (0.5, 0.5)
        np.testing.assert_allclose(inner.learning_rate.numpy(), 0.1)
