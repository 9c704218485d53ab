"""An optimizer answers whenever it is asked, as one of Keras's would."""

import contextlib
import inspect
import warnings

import keras
import numpy as np
import problem
import pytest
import tensorflow as tf

import tfdp

WAYS = {
    "plain": {},
    "accumulating": {"accumulation_steps": 2},
    "scaling": {"accumulation_steps": 2, "loss_scale": "dynamic"},
}


def adam():
    return keras.optimizers.Adam(0.01)


def make(strategy, is_built=True, **way):
    layers = [keras.Input((8,))] if is_built else []
    with strategy.scope():
        model = keras.Sequential([*layers, keras.layers.Dense(1)])
        model.compile(tfdp.DistributedOptimizer(adam(), **way), "mse")
    return model


def given(name, optimizer, model):
    """Arguments for a method, and what it may say where it cannot serve."""
    variables = model.trainable_variables
    gradients = [tf.zeros(v.shape) for v in variables]
    state = {}
    optimizer.save_own_variables(state)
    reference = variables[0] if variables else keras.Variable(1.0)
    counter = optimizer.iterations
    arguments = {
        "add_optimizer_variables": (variables, "more"),
        "add_variable": ((),),
        "add_variable_from_reference": (reference,),
        "apply": (gradients, variables),
        "apply_gradients": (list(zip(gradients, variables, strict=True)),),
        "assign": (counter, 0),
        "assign_add": (counter, 0),
        "assign_sub": (counter, 0),
        "build": (variables,),
        "check_finite": (gradients or [tf.zeros(())],),
        "exclude_from_weight_decay": (None, ["bias"]),
        "finalize_variable_values": (variables,),
        "from_config": (optimizer.get_config(),),
        "load_own_variables": (state,),
        "measure_noise": (0.9,),
        "measure_time": (object(),),
        "save_own_variables": ({},),
        "scale_loss": (tf.constant(1.0),),
        "set_weights": ([v.numpy() for v in optimizer.variables],),
        "stateless_apply": (optimizer.variables, gradients, variables),
        "update_step": (*gradients[:1], *variables[:1], 0.1),
    }
    refusals = {
        "apply": "must be called on every replica",
        "apply_gradients": "must be called on every replica|not enough values",
        "set_weights": "not yet been built",
        "stateless_apply": "must be built|on every replica",
        "exclude_from_weight_decay": "only be called before",
    }
    return arguments.get(name, ()), refusals.get(name)


def public():
    optimizer = tfdp.DistributedOptimizer(adam())
    return [n for n in dir(optimizer) if not n.startswith("_")] + [
        "micro_step",
        "skipped_updates",
        "step_counter",
        "dynamic_scale",
    ]


# What subclasses of `Optimizer` give, and an optimizer of optimizers has not.
ABSTRACT = {"update_step", "stateless_apply"}


@pytest.mark.sampled
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "stage",
    [
        "of an unbuilt model",
        "not built",
        "built",
        pytest.param("loaded", marks=pytest.mark.long),
    ],
)
@pytest.mark.filterwarnings("ignore:What an epoch leaves unfinished")
def test_all_that_is_public_answers_or_says_why_not(
    two_replicas, tmp_path, way, stage
):
    for name in sorted(set(public()) - ABSTRACT):
        is_built = stage != "of an unbuilt model"
        model = make(two_replicas, is_built, **WAYS[way])
        with two_replicas.scope():
            if stage in ("built", "loaded"):
                model.optimizer.build(model.trainable_variables)
            if stage == "loaded":
                model.save(tmp_path / "saved.keras")
                model = keras.models.load_model(tmp_path / "saved.keras")
            found = getattr(model.optimizer, name)
            if not inspect.ismethod(found):
                continue
            arguments, refusal = given(name, model.optimizer, model)
            may_refuse = (
                pytest.raises((ValueError, RuntimeError), match=refusal)
                if refusal and (stage != "built" or name[:5] == "apply")
                else contextlib.nullcontext()
            )
            if refusal and stage == "loaded" and name[:5] != "apply":
                may_refuse = contextlib.suppress(ValueError)
            if name == "exclude_from_weight_decay" and stage not in (
                "built",
                "loaded",
            ):
                may_refuse = contextlib.nullcontext()
            with may_refuse:
                found(*arguments)


@pytest.mark.parametrize("way", WAYS)
def test_before_it_is_built_nothing_was_counted(strategy, way):
    optimizer = make(strategy, **WAYS[way]).optimizer
    if optimizer.built:
        pytest.fail("the question is about one that is not")
    replicas = strategy.num_replicas_in_sync
    assert optimizer.samples_by_replica() == [0] * replicas
    for name in ("micro_step", "skipped_updates", "step_counter"):
        assert int(getattr(optimizer, name).numpy()) == 0
    assert int(optimizer.sample_counter.numpy()) == 0
    assert float(optimizer.dynamic_scale.numpy()) == optimizer.initial_scale
    assert not optimizer.is_mid_cycle
    with pytest.raises(AttributeError, match="no attribute 'micro_stop'"):
        _ = optimizer.micro_stop


def test_weight_decay_is_excluded_of_the_optimizer_that_decays(two_replicas):
    def make():
        return keras.optimizers.SGD(0.1, weight_decay=0.5)

    def trained(model):
        model.fit(problem.dataset(16, 16), epochs=2, verbose=0)
        return model.get_weights()

    expected = problem.make_model()
    plain = make()
    plain.exclude_from_weight_decay(var_names=["kernel"])
    expected.compile(plain, "mse")
    with two_replicas.scope():
        model = problem.make_model()
        optimizer = tfdp.DistributedOptimizer(make())
        optimizer.exclude_from_weight_decay(var_names=["kernel"])
        model.compile(optimizer, "mse")
    assert problem.deviation(trained(model), trained(expected)) < 1e-6


def saved_by(model, path, **fit):
    model.fit(problem.dataset(128, 16), verbose=0, **fit)
    (model.save_weights if "weights" in path.name else model.save)(path)


@pytest.mark.sampled
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["saved.weights.h5", "saved.keras"])
def test_weights_load_before_the_optimizer_is_built_as_kerass_do(
    strategy, tmp_path, way, name
):
    """Keras leaves the slots alone then, and says so; weights are loaded."""

    def again(scope, optimizer, callbacks, path):
        with scope:
            model = problem.make_model()
            model.compile(optimizer, "mse")
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                model.load_weights(path)
        assert any("Skipping variable loading" in str(w.message) for w in said)
        steps = getattr(optimizer, "accumulation_steps", 1)
        data = problem.dataset(128, 32 // steps)
        model.fit(data, epochs=2, verbose=0, callbacks=callbacks)
        return model.get_weights()

    path = tmp_path / name
    dp = tfdp.callbacks.DataParallel()
    with strategy.scope():
        model = problem.make_model()
        model.compile(tfdp.DistributedOptimizer(adam(), **WAYS[way]), "mse")
    saved_by(model, path, callbacks=[dp])
    optimizer = None
    with strategy.scope():
        optimizer = tfdp.DistributedOptimizer(adam(), **WAYS[way])
    actual = again(strategy.scope(), optimizer, [dp], path)
    expected = again(contextlib.nullcontext(), adam(), [], path)
    assert problem.deviation(actual, expected) < 1e-5


@pytest.mark.sampled
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["saved.weights.h5", "saved.keras"])
def test_weights_and_slots_load_once_it_is_built(
    two_replicas, tmp_path, way, name
):
    path, dp = tmp_path / name, tfdp.callbacks.DataParallel()

    def compiled():
        with two_replicas.scope():
            model = problem.make_model()
            model.compile(tfdp.DistributedOptimizer(adam(), **WAYS[way]), "mse")
            model.optimizer.build(model.trainable_variables)
        return model

    model, again = compiled(), compiled()
    saved_by(model, path, callbacks=[dp])
    again.load_weights(path)
    for each in (model, again):
        each.fit(problem.dataset(128, 16), verbose=0, callbacks=[dp])
    for a, b in zip(
        again.optimizer.variables, model.optimizer.variables, strict=True
    ):
        np.testing.assert_allclose(a.numpy(), b.numpy(), atol=1e-6)
    assert problem.deviation(again.get_weights(), model.get_weights()) < 1e-6
