"""Layers of which it cannot be told on which device of a replica they are."""

from collections.abc import Iterable, Iterator

import keras

from tfdp.audits.findings import Finding
from tfdp.groups import Pipeline, Stage, group_size
from tfdp.upstream.keras import inspection


def findings(model: keras.Model) -> Iterator[Finding]:
    """Finds what is not on the device where it is looked for.

    Args:
        model: A model, with stages or without.
    """
    layers = inspection.layers(model)
    stages = [each for each in layers if isinstance(each, Stage)]
    size = group_size(model.distribute_strategy)
    if stages and size:
        yield from _beyond(stages, size)
        yield from _shared(stages)
    if size > 1:
        yield from _outside(layers, stages, size)
    yield from _of_micro_batches(layers)


def _beyond(stages: list[Stage], size: int) -> Iterator[Finding]:
    beyond = [each for each in stages if each.index >= size]
    if beyond:
        yield Finding(
            "The index of a Stage must be below the number of devices of a "
            "replica.",
            f"{_names(beyond)} with index {beyond[0].index}, and groups of "
            f"{size}",
            "error",
            f"Use indices from 0 to {size - 1}, or larger groups.",
        )


def _shared(stages: list[Stage]) -> Iterator[Finding]:
    indices: dict[int, set[int]] = {}
    found = {}
    for stage in stages:
        for layer in inspection.layers(stage):
            indices.setdefault(id(layer), set()).add(stage.index)
            found[id(layer)] = layer
    shared = [found[key] for key, at in indices.items() if len(at) > 1]
    if shared:
        yield Finding(
            "A layer is computed where its weights are if it is in one Stage.",
            f"{_names(shared)} in stages of several devices, the first of "
            "which holds the weights",
            "note",
            "Put what shares weights into one Stage.",
        )


def _outside(
    layers: list[keras.layers.Layer], stages: list[Stage], size: int
) -> Iterator[Finding]:
    inside = {id(x) for stage in stages for x in inspection.layers(stage)}
    outside = [
        layer
        for layer in layers
        if id(layer) not in inside
        and not isinstance(
            layer, (Stage, Pipeline, keras.Model, keras.layers.InputLayer)
        )
        and not _holds(layer, stages)
    ]
    parts = {id(x) for layer in outside for x in inspection.layers(layer)}
    outside = [layer for layer in outside if id(layer) not in parts]
    if outside:
        yield Finding(
            "A layer is on the device of the Stage that it is in.",
            f"{_names(outside)} in none, and so on the first of the {size} "
            "devices of each replica",
            "note",
            "Put it into a Stage, if it is to be elsewhere.",
        )


def _of_micro_batches(layers: list[keras.layers.Layer]) -> Iterator[Finding]:
    found = {
        id(layer): layer
        for pipeline in layers
        if isinstance(pipeline, Pipeline) and pipeline.micro_batches > 1
        for layer in inspection.layers(pipeline)
        if isinstance(layer, keras.layers.BatchNormalization)
        and layer.trainable
    }
    if found:
        yield Finding(
            "In a Pipeline, batch statistics are those of a micro-batch.",
            _names(found.values()),
            "note",
            "Use micro_batches=1, or a normalization that looks at one "
            "sample, such as LayerNormalization or GroupNormalization.",
        )


def _holds(layer: keras.layers.Layer, stages: list[Stage]) -> bool:
    held = {id(each) for each in inspection.layers(layer)}
    return any(id(stage) in held for stage in stages)


def _names(layers: Iterable[keras.layers.Layer]) -> str:
    return ", ".join(f"`{layer.name}`" for layer in layers)
