"""Trains the named models of `own_steps` on several workers."""

import sys

import keras
import own_steps

import tfdp

strategy = tfdp.auto_strategy()


def optimizer():
    return tfdp.DistributedOptimizer(keras.optimizers.SGD(0.02, momentum=0.9))


def train(name):
    with strategy.scope():
        model = own_steps.made(name, optimizer)
    callbacks = [tfdp.callbacks.DataParallel()]
    history, evaluated = own_steps.train(name, model, callbacks=callbacks)
    return {
        "weights": [w.tolist() for w in model.get_weights()],
        "history": {
            key: list(map(float, values)) for key, values in history.items()
        },
        "types": sorted({type(v[0]).__name__ for v in history.values()}),
        "evaluated": evaluated,
    }


def initial_weights():
    """Of a model that its first step builds, and that has no common seed."""
    keras.utils.set_random_seed(strategy.worker_index)
    with strategy.scope():
        model = own_steps.DCGAN()
        model.compile(optimizer)
    seen = []
    begin = keras.callbacks.LambdaCallback(
        on_train_begin=lambda logs: seen.extend(model.get_weights())
    )
    model.fit(
        own_steps.dataset("DCGAN").take(1),
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel(), begin],
    )
    return [weight.tolist() for weight in seen]


def audited():
    """By the chief alone; the others do not wait for it."""
    with strategy.scope():
        model = own_steps.made("Variables", optimizer)
        model(own_steps.Variables.data[0])
    findings = []
    if strategy.is_chief:
        findings = list(map(str, tfdp.audit(model, own_steps.Variables.data)))
    history = model.fit(
        own_steps.dataset("Variables"),
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel()],
    ).history
    return findings, history["loss"]


def refused():
    with strategy.scope():
        model = own_steps.made("Variables", optimizer)
    try:
        tfdp.audit(model, own_steps.Variables.data)
    except RuntimeError as error:
        return str(error)


models = {name: train(name) for name in sys.argv[1:]}
tfdp.testing.report(
    {
        "models": models,
        "audited": audited(),
        "refused": refused(),
        "initial": initial_weights(),
    }
)
