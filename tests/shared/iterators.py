"""Iterators that feed devices, made faster for many short trainings.

TensorFlow traces six functions for each device of each iterator, one of which
every epoch and validation makes. They differ in nothing but what they capture,
so that the tests, which train thousands of times, trace them once. What is run
stays the same.
"""

import pytest
import tensorflow as tf
from problem import untuned
from tensorflow.python.data.ops import dataset_ops, multi_device_iterator_ops
from tensorflow.python.ops import gen_dataset_ops

_FUNCTIONS = ("init_func", "next_func", "finalize_func")


def patched():
    """Patches TensorFlow; returns what undoes it."""
    patch = pytest.MonkeyPatch()
    module = multi_device_iterator_ops
    # The first dataset of an iterator has its incarnation already.
    patch.setattr(
        module,
        "_create_device_dataset",
        lambda dataset, incarnation, buffer_size, slack: untuned(
            dataset.prefetch(buffer_size) if buffer_size else dataset
        ),
    )
    trace, traced = module._PerDeviceGenerator.__init__, {}

    def make(self, shard, resource, incarnation, source, spec, **options):
        if not tf.executing_eagerly():
            trace(self, shard, resource, incarnation, source, spec, **options)
            return
        device = resource.device, tf.zeros(()).device
        kind = (shard, device, source.numpy(), repr(spec), *options.items())
        if kind not in traced:
            trace(self, shard, resource, incarnation, source, spec, **options)
            captured = [
                [argument.dtype.name for argument in arguments]
                for arguments in (
                    self._init_captured_args,
                    self._next_captured_args,
                    self._finalize_captured_args,
                )
            ]
            expected = [["string"] * 2, ["string", "int64", "resource"]]
            if captured == [*expected, ["string"]]:
                traced[kind] = [getattr(self, f"_{n}") for n in _FUNCTIONS]
            return
        self._element_spec = spec
        self._name = f"device_generator_{shard}"
        handle = gen_dataset_ops.multi_device_iterator_to_string_handle(
            resource
        )
        variant = gen_dataset_ops.generator_dataset(
            [source, handle],
            [source, incarnation, resource],
            [source],
            **dict(zip(_FUNCTIONS, traced[kind], strict=True)),
            **self._flat_structure,
        )
        dataset_ops.DatasetV2.__init__(self, variant)

    patch.setattr(module._PerDeviceGenerator, "__init__", make)
    return patch
