"""Trains the models of `own_steps` on several workers."""

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
        "history": history,
        "evaluated": evaluated,
    }


tfdp.testing.report({name: train(name) for name in own_steps.MODELS})
