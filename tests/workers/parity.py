"""Trains a grid of cases on several workers and reports each one's result."""

import sys

import problem

import tfdp

strategy = tfdp.auto_strategy()


def train(case):
    with strategy.scope():
        model = problem.make_model()
        optimizer = tfdp.DistributedOptimizer(
            problem.OPTIMIZERS[case["optimizer"]](),
            accumulation_steps=case["steps"],
        )
        model.compile(optimizer, "mse", metrics=["mae"])
    batch = problem.GLOBAL_BATCH // case["steps"]
    data = problem.dataset(case["num_samples"], batch)
    history = model.fit(
        data,
        validation_data=data,
        epochs=problem.EPOCHS,
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel()],
    ).history
    return {
        "weights": [w.tolist() for w in model.get_weights()],
        "history": history,
        "evaluated": model.evaluate(data, verbose=0),
        "predicted": model.predict(data, verbose=0).tolist(),
        "updates": int(optimizer.iterations.numpy()),
    }


def read(argument):
    name, steps, num_samples = argument.split(":")
    return {
        "optimizer": name,
        "steps": int(steps),
        "num_samples": int(num_samples),
    }


tfdp.testing.report([train(read(argument)) for argument in sys.argv[1:]])
