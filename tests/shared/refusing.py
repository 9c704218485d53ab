"""A model that says what `fit` refuses of data."""

import keras

import tfdp


def compiled(strategy):
    with strategy.scope():
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        optimizer = tfdp.DistributedOptimizer(keras.optimizers.SGD(0.0))
        model.compile(optimizer, "mse")
    return model


def refusal(model, data):
    """The words of the error of a `fit`, or `None`."""
    try:
        model.fit(data, verbose=0)
    except ValueError as error:
        return str(error)
    return None
