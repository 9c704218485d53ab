"""Runs programs in their ways, and compares what comes out."""

import dataclasses
import functools
import importlib.util
import itertools
import pathlib
import sys

import keras
import numpy as np
import tensorflow as tf
from grids import later
from program import Found, Way

HERE = pathlib.Path(__file__).parent
NAMES = sorted(
    str(path.relative_to(HERE).with_suffix("")) for path in HERE.glob("*/*.py")
)


def parameters(without=None, at_once=None):
    """Returns a pytest parameter for each program.

    Args:
        without: A way; programs of which there is only a finding in that way
            are left out.
        at_once: Those that are not `long`. By default, what programs say.
    """
    names = [
        name
        for name in NAMES
        if not isinstance(load(name).differs.get(without), Found)
    ]
    if at_once is None:
        at_once = [name for name in names if not load(name).is_long]
    return later(names, at_once)


@functools.cache
def load(name):
    """Returns the program of a file in a folder beside this one."""
    spec = importlib.util.spec_from_file_location(
        f"programs.{name.replace('/', '.')}", HERE / f"{name}.py"
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.PROGRAM


@dataclasses.dataclass
class Trained:
    """What a program leaves behind; JSON can hold its fields.

    Args:
        weights: Weights after it.
        logs: The history of each `fit`.
        updates: Of each optimizer.
    """

    weights: list
    logs: list[dict]
    updates: list[int]


def make(program, way):
    keras.config.set_dtype_policy(program.dtype)
    keras.utils.set_random_seed(1)
    with way.scope():
        return program.make(way)


def train(program, way):
    """Trains a program as its user would."""
    model = make(program, way)
    logs = [fit(program, way, model)]
    if program.then is not None:
        with way.scope():
            program.then(model, way)
        logs.append(fit(program, way, model))
    updates = [int(each.iterations.numpy()) for each in _optimizers(model)]
    return Trained(_flat(model), logs, updates)


@functools.cache
def oracle(name):
    return train(load(name), Way())


def check(program, way, actual, expected):
    """Fails where a program is not what it should be in a way."""
    if way not in program.differs:
        compare(program, way, actual, expected)
    else:
        check_learning(program, actual)
        assert actual.updates == expected.updates


def compare(program, way, actual, expected):
    """Fails where a program is not that of one device."""
    deviations = {
        f"weight {i}": float(
            np.max(np.abs(np.subtract(a, e)) / np.maximum(1, np.abs(e)))
        )
        for i, (a, e) in enumerate(
            zip(actual.weights, expected.weights, strict=True)
        )
    }
    off = {k: v for k, v in deviations.items() if not v <= program.tolerance}
    is_of_last_step = program.logs_of_last_step and way == "accumulating"
    for (fit, log), other in zip(
        enumerate(expected.logs), actual.logs, strict=True
    ):
        assert log.keys() == other.keys()
        for key in log:
            if is_of_last_step and not key.startswith("val_"):
                continue
            difference = np.max(
                np.abs(np.subtract(other[key], log[key]))
                / np.maximum(np.abs(log[key]), 1e-3)
            )
            if not difference <= program.logs:
                off[f"{key} of fit {fit}"] = (other[key], log[key])
    if actual.updates != expected.updates:
        off["updates"] = (actual.updates, expected.updates)
    assert not off, off


def check_learning(program, trained):
    """Fails where there is nothing to compare."""
    assert all(map(np.isfinite, itertools.chain(*trained.weights)))
    for log in trained.logs:
        changes = [abs(each[-1] - each[0]) for each in log.values()]
        assert max(changes) > 10 * program.logs
    assert max(trained.updates) >= 4


def fit(program, way, model):
    data = program.data(program.batch // way.steps)
    if type(way) is Way:
        data["x"] = _of_known_length(data["x"])
    arguments = {"epochs": 2, "verbose": 0, **program.fit, **data}
    arguments["callbacks"] = [
        *way.callbacks(),
        *arguments.get("callbacks", ()),
    ]
    history = model.fit(**arguments).history
    return {key: np.asarray(log).tolist() for key, log in history.items()}


def _of_known_length(data):
    """Plain Keras counts an update where it finds the end of the data."""
    if not isinstance(data, tf.data.Dataset) or data.cardinality() >= 0:
        return data
    length = sum(1 for _ in data)
    return data.apply(tf.data.experimental.assert_cardinality(length))


def _flat(model):
    return [
        np.ravel(weight).astype("float64").tolist()
        for weight in model.get_weights()
    ]


def _optimizers(model):
    found = [
        value
        for part in (model, *model.layers)
        for value in vars(part).values()
        if isinstance(value, keras.optimizers.Optimizer)
    ]
    unique = {id(each): each for each in found}.values()
    # Keras's own for half precision does not count.
    plain = keras.optimizers.LossScaleOptimizer
    return [
        each.inner_optimizer if type(each) is plain else each for each in unique
    ]
