"""Symbolic tensors that stand for what layers will be given."""

from typing import Any

import keras

from tfdp.upstream.keras import keras_masks


def of_shapes(shapes: Any, dtype: str) -> Any:
    """Returns symbolic tensors of a structure of shapes.

    Args:
        shapes: A shape, or lists, tuples or dicts of them.
        dtype: Type of the tensors, which a shape does not tell.
    """
    if shapes is None:
        return None
    if isinstance(shapes, dict):
        return {key: of_shapes(each, dtype) for key, each in shapes.items()}
    if _is_shape(shapes):
        return keras.KerasTensor(tuple(shapes), dtype=dtype)
    return type(shapes)(of_shapes(each, dtype) for each in shapes)


def shapes_of(tensors: Any) -> Any:
    """Returns the shapes of a structure of tensors."""
    return keras.tree.map_structure(
        lambda each: None if each is None else tuple(each.shape), tensors
    )


def afresh(tensors: Any) -> Any:
    """Returns symbolic tensors like others, and with their masks.

    Keras notes on each which layer it comes from, and that is another one.
    """
    fresh = keras.tree.map_structure(
        lambda t: keras.KerasTensor(
            t.shape, dtype=t.dtype, sparse=getattr(t, "sparse", False)
        ),
        tensors,
    )
    keras_masks.attach(fresh, keras_masks.masks_of(tensors))
    return fresh


def _is_shape(value: Any) -> bool:
    return all(each is None or isinstance(each, int) for each in value)
