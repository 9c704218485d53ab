"""Trains in given settings on several workers and reports the results."""

import sys

import iterators
import settings

import tfdp

iterators.patched()
strategy = tfdp.auto_strategy()


def train(setting):
    with strategy.scope():
        model = settings.make_model(setting)
        loss, needs_wrap = settings.make_loss(setting)
        optimizer = tfdp.DistributedOptimizer(
            settings.make_optimizer(setting), setting.steps
        )
        model.compile(
            optimizer, tfdp.DistributedLoss(loss) if needs_wrap else loss
        )
    data = settings.dataset(setting, settings.GLOBAL_BATCH)
    history = model.fit(
        settings.dataset(setting, settings.GLOBAL_BATCH // setting.steps),
        validation_data=data,
        epochs=settings.EPOCHS,
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel()],
        **settings.fit_arguments(setting),
    ).history
    return {
        "weights": [w.tolist() for w in model.get_weights()],
        "history": history,
        "evaluated": model.evaluate(data, verbose=0),
        "predicted": model.predict(data, verbose=0).tolist(),
        "updates": int(optimizer.iterations.numpy()),
    }


tfdp.testing.report([train(settings.read(text)) for text in sys.argv[1:]])
