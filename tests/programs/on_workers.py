"""Trains the named programs, one after the other, on each of the workers."""

import dataclasses
import pathlib
import sys
import traceback
import warnings

sys.path.append(str(pathlib.Path(__file__).parents[1] / "shared"))

import harness
import iterators
import program

import tfdp

iterators.patched()
warnings.simplefilter("error", UserWarning)
# 2026-11: plain Keras says this of any dataset.
warnings.filterwarnings("ignore", "Your input ran out of data")
# Of data that are exact, and might be faster.
warnings.filterwarnings("ignore", "Each worker computes all items")
strategy = tfdp.auto_strategy()


def train(name):
    way = program.Distributed(strategy)
    try:
        trained = harness.train(harness.load(name), way)
    except Exception as error:
        return {
            "error": f"{type(error).__name__}: {error}",
            "trace": traceback.format_exc(),
        }
    return dataclasses.asdict(trained)


tfdp.testing.report({name: train(name) for name in sys.argv[1:]})
