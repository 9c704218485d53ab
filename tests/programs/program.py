"""A whole program, and the ways in which it is run.

A program is written as its user would, in terms of a `Way`, which says what
the optimizer is wrapped in. The first of the ways knows nothing of tfdp: plain
Keras on one device with one large batch, which is the oracle of the others.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf
from problem import untuned

import tfdp


class Way:
    """One device, one large batch, plain Keras."""

    steps = 1

    def scope(self):
        return contextlib.nullcontext()

    def optimizer(self, optimizer):
        """Adds up gradients of the same row, as Keras 2 did."""
        apply = optimizer.apply

        def apply_summed(gradients, *args, **kwargs):
            dense = [
                None if each is None else tf.convert_to_tensor(each)
                for each in gradients
            ]
            return apply(dense, *args, **kwargs)

        optimizer.apply = apply_summed
        return optimizer

    def loss(self, loss, over="auto"):
        return loss

    def gather(self, tensor):
        return tensor

    def callbacks(self):
        return []


@dataclasses.dataclass(frozen=True)
class Distributed(Way):
    """In the scope of a tfdp strategy, which all ways but the oracle are."""

    strategy: tf.distribute.Strategy
    steps: int = 1

    def scope(self):
        return self.strategy.scope()

    def optimizer(self, optimizer):
        return tfdp.DistributedOptimizer(
            optimizer, self.steps, initial_scale=2.0**10
        )

    def loss(self, loss, over="auto"):
        return tfdp.DistributedLoss(loss, over=over)

    def gather(self, tensor):
        return tfdp.gather(tensor)

    def callbacks(self):
        return [tfdp.callbacks.DataParallel()]


@dataclasses.dataclass(frozen=True)
class Refused:
    """`fit` raises what matches before anything has moved."""

    match: str


@dataclasses.dataclass(frozen=True)
class Found:
    """An audit of a batch finds what matches."""

    match: str


@dataclasses.dataclass(frozen=True)
class Other:
    """It trains, by as many updates, to weights that are meant to differ."""

    reason: str


@dataclasses.dataclass(frozen=True)
class Program:
    """What is trained, on what, and how closely it is that of one device.

    Args:
        make: Makes a compiled model, in the way it is given.
        data: Returns arguments of `fit` for a micro-batch of the given size.
        batch: The global batch.
        fit: More arguments of `fit`.
        then: Changes and compiles the model for a second `fit`, if any.
        dtype: The dtype policy.
        tolerance: Largest difference of a weight, relative above 1.
        logs: Largest relative difference of what `fit` logs.
        logs_of_last_step: Whether a step returns what it has just computed,
            so that `fit` logs the last micro-batch of an epoch.
        differs: What happens instead, by name of the way.
        is_long: Whether it takes too long for each run of the tests.
    """

    make: Callable[[Way], keras.Model]
    data: Callable[[int], dict[str, Any]]
    batch: int = 16
    fit: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    then: Callable[[keras.Model, Way], None] | None = None
    dtype: str = "float32"
    tolerance: float = 1e-5
    logs: float = 1e-4
    logs_of_last_step: bool = False
    differs: Mapping[str, Refused | Found | Other] = dataclasses.field(
        default_factory=dict
    )
    is_long: bool = False


def stream(*arrays, batch):
    """Arguments of `fit`: arrays, or dicts of them, in batches, in order."""
    given = arrays if len(arrays) > 1 else arrays[0]
    data = tf.data.Dataset.from_tensor_slices(given).batch(batch)
    return {"x": untuned(data)}


def replicas():
    """What a mean that Keras does not take must be divided by."""
    return tf.distribute.get_strategy().num_replicas_in_sync
