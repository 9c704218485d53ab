"""What a model holds: its layers, losses, optimizers and statistics."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras

from tfdp.upstream.keras import keras_models


def layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Returns the layers of a model, those inside of layers too."""
    return keras_models.all_layers(model)


def outputs(model: keras.Model) -> list[Any]:
    """Returns the symbolic outputs; none of a subclassed or unbuilt model."""
    return list(getattr(model, "outputs", None) or [])


def losses(model: keras.Model) -> list[tuple[Any, Any]]:
    """Returns what a model was compiled with as losses, each with its output.

    Returns:
        A loss, as given to `compile`, with the symbolic output it is of, or
        `None` where that is not known.
    """
    compiled = getattr(model, "loss", None)
    known = outputs(model)
    if not keras.tree.is_nested(compiled):
        pairs = [(compiled, output) for output in known or [None]]
    elif isinstance(compiled, Mapping) and not any(
        map(keras.tree.is_nested, compiled.values())
    ):
        names = getattr(model, "output_names", None) or []
        by_name = dict(zip(names, known, strict=True))
        pairs = [(loss, by_name.get(key)) for key, loss in compiled.items()]
    else:
        flat = keras.tree.flatten(compiled)
        if len(flat) != len(known):
            known = [None] * len(flat)
        pairs = list(zip(flat, known, strict=True))
    return [(loss, output) for loss, output in pairs if loss is not None]


def adds_losses(model: keras.Model) -> bool:
    """Whether layers have added losses in the forward pass at hand.

    By `add_loss`, or by activity regularizers; those of weights do not count.
    """
    regularized = [v for v in model.trainable_weights if v.regularizer]
    return len(model.losses) > len(regularized)


def optimizers(model: keras.Model) -> list[keras.optimizers.Optimizer]:
    """Returns the optimizers of a model: the compiled one, and attributes.

    A model with a `train_step` of its own may hold several, such as one each
    for a generator and a discriminator; so may its layers. Beside these, the
    one that `compile` makes if it is given none is idle, and left out, as is
    that of a model inside of the model, unless it is one for replicas.
    """
    found = {id(each): each for each in _held(model)}
    compiled = found.get(id(model.optimizer))
    for layer in layers(model):
        idle = getattr(layer, "optimizer", None)
        for each in _held(layer):
            if each is not idle or hasattr(each, "weighs_samples"):
                found[id(each)] = each
    if len(found) > 1 and type(compiled) is keras.optimizers.RMSprop:
        del found[id(compiled)]
    return list(found.values())


class Optimizers:
    """The optimizers of a model that is fitted, for what asks at every step.

    They are looked for anew where the model was compiled since.

    Args:
        model: The model.
    """

    def __init__(self, model: keras.Model) -> None:
        self._model = model
        self._found = optimizers(model)
        self._train_function = model.train_function

    def now(self) -> list[keras.optimizers.Optimizer]:
        """Returns what `optimizers` does."""
        if self._model.train_function is not self._train_function:
            self._found = optimizers(self._model)
            self._train_function = self._model.train_function
        return self._found


def _held(layer: keras.layers.Layer) -> list[keras.optimizers.Optimizer]:
    held: list[Any] = []
    for attribute in vars(layer).values():
        if isinstance(attribute, Mapping):
            held.extend(attribute.values())
        elif isinstance(attribute, Sequence) and not isinstance(attribute, str):
            held.extend(attribute)
        else:
            held.append(attribute)
    return [x for x in held if isinstance(x, keras.optimizers.Optimizer)]


def metrics(model: keras.Model) -> list[keras.metrics.Metric]:
    """Returns the metrics of a model, those that it does not name too.

    What was given to `compile` comes as one that holds others, and as these.
    """
    found: dict[int, keras.metrics.Metric] = {}
    open_ends = [*model.metrics, *vars(model).values()]
    while open_ends:
        each = open_ends.pop(0)
        if isinstance(each, keras.Metric) and id(each) not in found:
            found[id(each)] = each
            open_ends.extend(getattr(each, "metrics", ()))
    return list(found.values())


def innermost(
    optimizer: keras.optimizers.Optimizer,
) -> keras.optimizers.Optimizer:
    """Returns the optimizer that others scale the loss or accumulate for."""
    while hasattr(optimizer, "inner_optimizer"):
        optimizer = optimizer.inner_optimizer
    return optimizer


def updates(optimizers: Iterable[keras.optimizers.Optimizer]) -> int:
    """Returns how many updates optimizers have made or skipped so far.

    Returns:
        That of the optimizer with the most; 0 where there is none.
    """
    counts = (
        [optimizer.iterations, getattr(optimizer, "skipped_updates", None)]
        for optimizer in optimizers
    )
    return max(
        (sum(int(x.numpy()) for x in each if x is not None) for each in counts),
        default=0,
    )


def statistics(model: keras.Model) -> list[keras.Variable]:
    """Returns the weights that steps change without any gradient.

    The moving statistics of `BatchNormalization`, and what layers of the
    user's keep like them. A frozen layer keeps none.
    """
    found = {
        id(weight): weight
        for layer in (model, *layers(model))
        if layer.trainable
        for weight in keras_models.own_non_trainable_weights(layer)
    }
    return list(found.values())


def synchronizes(layer: keras.layers.Layer) -> bool:
    """Whether a layer's statistics are those of all replicas' samples."""
    return bool(getattr(layer, "synchronized", False))
