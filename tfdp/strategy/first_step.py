"""Models that their own step builds, and no call.

On one device Keras leaves it to the first step to make a model's variables.
Under a strategy it calls the model on a batch before, which most models with a
`train_step` of their own cannot answer: they have no `call`, or one that takes
something else than the step. Here the step itself is asked.
"""

import contextlib
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfdp.upstream.keras import inspection, keras_fit, keras_models
from tfdp.upstream.tensorflow import tf_functions


class FirstStep:
    """Builds models by their steps, before these run.

    Args:
        run: Calls a function on every replica, given the function and a batch
            that each of them is to have.
    """

    def __init__(self, run: Callable[[Callable[..., Any], Any], Any]) -> None:
        self._run = run
        self._asked: weakref.WeakKeyDictionary[keras.Model, set[Any]] = (
            weakref.WeakKeyDictionary()
        )

    @contextlib.contextmanager
    def building(self, build: keras_fit.SymbolicBuild) -> Iterator[None]:
        """Stands in for Keras's own way to build a model.

        Args:
            build: What Keras is about to do while the block runs.
        """
        if not build.is_own_step or _is_built(build.model):
            yield
            return
        if self._was_asked(build) or self._traced(build):
            with build.left_out():
                yield
            return
        # If that fails too, it is for the step to say why.
        with contextlib.suppress(Exception), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield

    def _was_asked(self, build: keras_fit.SymbolicBuild) -> bool:
        # What a step leaves alone is never built, however often it is asked.
        held = inspection.optimizers(build.model)
        question = (build.step, *map(id, held))
        asked = self._asked.setdefault(build.model, set())
        if question in asked:
            return True
        asked.add(question)
        return False

    def _traced(self, build: keras_fit.SymbolicBuild) -> bool:
        """Whether the step could be gone through, without running it."""
        step = tf.autograph.experimental.do_not_convert(
            getattr(build.model, build.step)
        )
        try:
            with tf_functions.never_executed():
                data = keras.tree.map_structure(_tensor, build.data)
                self._run(step, data)
        except Exception:
            return False
        return True


def _is_built(model: keras.Model) -> bool:
    held = inspection.optimizers(model)
    return keras_models.is_built(model) and all(each.built for each in held)


def _tensor(leaf: Any) -> Any:
    """Returns a tensor of a graph for what a batch, or its type, holds."""
    if isinstance(leaf, tf.TensorSpec):
        return tf.raw_ops.Placeholder(dtype=leaf.dtype, shape=leaf.shape)
    if isinstance(leaf, np.ndarray):
        return tf.convert_to_tensor(leaf)
    return leaf
