"""Trains with compiled replicas on several workers and reports the results."""

import sys

import iterators
import settings

import tfdp

iterators.patched()
strategy = tfdp.auto_strategy()


def train(setting):
    before = strategy.compile_times.count
    with strategy.scope():
        model = settings.make_model(setting)
        optimizer = tfdp.DistributedOptimizer(
            settings.make_optimizer(setting), setting.steps
        )
        model.compile(
            optimizer, settings.make_loss(setting)[0], jit_compile=True
        )
    history = model.fit(
        settings.dataset(setting, settings.GLOBAL_BATCH // setting.steps),
        validation_data=settings.dataset(setting, settings.GLOBAL_BATCH),
        epochs=settings.EPOCHS,
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel()],
        **settings.fit_arguments(setting),
    ).history
    return {
        "weights": [w.tolist() for w in model.get_weights()],
        "history": history,
        "updates": int(optimizer.iterations.numpy()),
        "compiled": strategy.compile_times.count - before,
    }


tfdp.testing.report([train(settings.read(text)) for text in sys.argv[1:]])
