"""SGD for very large batches, with a rate of its own for each layer."""

import re
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfdp.checks import checked_number
from tfdp.large_batch.learning_rate import checked_rate
from tfdp.upstream.keras import keras_optimizers

_NOT_ADAPTED = {"beta", "bias", "gamma", "scale"}


@keras.saving.register_keras_serializable(package="tfdp")
class LARS(keras.optimizers.Optimizer):
    """Momentum SGD whose step is in proportion to the weights it changes.

    A rate that a very large batch asks for is too much for layers whose
    gradients are large beside their weights. Here every variable has a rate of
    its own, by the norms of both:

    ```python
    local = trust_coefficient * norm(weight) / (
        norm(gradient) + weight_decay * norm(weight) + epsilon
    )
    step = learning_rate * local * (gradient + weight_decay * weight)
    velocity = momentum * velocity + step
    weight = weight - velocity
    ```

    where with `nesterov=True` the weight changes by
    `momentum * velocity + step`. `local` is 1 where the weight or the gradient
    is all zeros. Norms are computed in at least float32.

    Biases and the weights of normalisations (all of rank 0 or 1, or called
    bias, beta, gamma or scale) have neither `local` nor weight decay: they are
    trained by momentum SGD.

    As the trust coefficient is small, learning rates are larger than for SGD.
    Biases get them in full: where those diverge, give a larger trust
    coefficient and a smaller rate. Pair it with `WarmupSchedule`.

    See also `keras.optimizers.Lamb`, which does the same to the step of Adam.
    Its `weight_decay` is not what its paper calls so: Keras first multiplies
    the weight by `1 - learning_rate * weight_decay`, without the ratio of
    norms, while the paper adds the decay to the step of Adam, and takes the
    ratio of the sum.

    Args:
        learning_rate: A number, a schedule, or a function without arguments.
            Defaults to 0.01.
        momentum: Part of the velocity that stays from update to update, from
            0 to below 1. Defaults to 0.9.
        weight_decay: What is added to the gradient, relative to the weight.
            Defaults to 0.
        trust_coefficient: Relative change of a weight that is trusted per
            update, at a learning rate of 1. Defaults to 0.001.
        epsilon: Added to the denominator of the local rate. Defaults to 0.
        nesterov: Whether to look ahead by one step. Defaults to `False`.
        clipnorm: As in `keras.optimizers.SGD`, like all that follow.
        clipvalue: Defaults to `None`.
        global_clipnorm: Defaults to `None`.
        use_ema: Defaults to `False`.
        ema_momentum: Defaults to 0.99.
        ema_overwrite_frequency: Defaults to `None`.
        loss_scale_factor: For use without `DistributedOptimizer`.
        gradient_accumulation_steps: For use without `DistributedOptimizer`.
        name: Name of the optimizer.

    Attributes:
        local_weight_decay: The `weight_decay` given. The attribute of that
            name is Keras's own, and stays `None`.

    Raises:
        TypeError: If `momentum`, `weight_decay`, `trust_coefficient` or
            `epsilon` is no number.
        ValueError: If one of them is out of its range.

    Example:

    >>> optimizer = tfdp.LARS(
    ...     tfdp.WarmupSchedule(4.0, warmup_updates=500), weight_decay=1e-4
    ... )
    >>> optimizer.trust_coefficient
    0.001

    Reference:
        You et al., 2017, equation 6 and algorithm 1.
        https://arxiv.org/abs/1708.03888. Where a norm is zero, as
        `tf.contrib.opt.LARSOptimizer` of TensorFlow 1; the LARS of
        TensorFlow's Model Garden and of SimCLR have the same momentum, and
        divide by `norm(gradient + weight_decay * weight)` instead.
    """

    def __init__(
        self,
        learning_rate: Any = 0.01,
        momentum: float = 0.9,
        *,
        weight_decay: float = 0.0,
        trust_coefficient: float = 0.001,
        epsilon: float = 0.0,
        nesterov: bool = False,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None,
        name: str = "lars",
    ) -> None:
        super().__init__(
            learning_rate=checked_rate(learning_rate),
            clipnorm=clipnorm,
            clipvalue=clipvalue,
            global_clipnorm=global_clipnorm,
            use_ema=use_ema,
            ema_momentum=ema_momentum,
            ema_overwrite_frequency=ema_overwrite_frequency,
            loss_scale_factor=loss_scale_factor,
            gradient_accumulation_steps=gradient_accumulation_steps,
            name=name,
        )
        self.momentum = checked_number("momentum", momentum, zero_allowed=True)
        if self.momentum >= 1:
            raise ValueError(
                "`momentum` must be below 1, or the velocity never ends. "
                f"Received: momentum={momentum}. Common is 0.9."
            )
        # By the name of `weight_decay` Keras would apply it a second time.
        self.local_weight_decay = checked_number(
            "weight_decay", weight_decay, zero_allowed=True
        )
        self.trust_coefficient = checked_number(
            "trust_coefficient", trust_coefficient
        )
        self.epsilon = checked_number("epsilon", epsilon, zero_allowed=True)
        self.nesterov = nesterov
        self._excluded: tuple[str, ...] = ()

    def exclude_from_layer_adaptation(
        self,
        var_list: Sequence[keras.Variable] | None = None,
        var_names: Sequence[str] | None = None,
    ) -> None:
        """Trains more variables as biases are: by momentum SGD, without decay.

        What was excluded before by this method no longer is. Variables are
        told by their paths, which are saved with the optimizer.

        Args:
            var_list: Variables to exclude.
            var_names: Regular expressions; variables in whose path one is
                found are excluded.

        Raises:
            RuntimeError: If the optimizer was used already.
            TypeError: If `var_names` is a single string.
        """
        if self.built:
            raise RuntimeError(
                "What is excluded must be said before the first update. "
                f"Received: a call after {int(self.iterations.numpy())} "
                "updates. Call this right after creating the optimizer."
            )
        if isinstance(var_names, str):
            raise TypeError(
                "`var_names` must be a list of strings. Received: "
                f"var_names={var_names!r}. Pass [{var_names!r}]."
            )
        self._excluded = (
            *(f"^{re.escape(_path(variable))}$" for variable in var_list or ()),
            *(var_names or ()),
        )

    def build(self, var_list: Sequence[keras.Variable]) -> None:
        """Creates a velocity for each variable.

        Args:
            var_list: The variables to train.
        """
        if self.built:
            return
        super().build(var_list)
        self._velocities = [
            self.add_variable_from_reference(v, "velocity") for v in var_list
        ]
        self._adapts = [self._is_adapted(v) for v in var_list]
        self._decays = [
            self._is_adapted(v) and keras_optimizers.decays(self, v)
            for v in var_list
        ]

    def update_step(
        self, gradient: Any, variable: keras.Variable, learning_rate: Any
    ) -> None:
        """Moves one variable.

        Args:
            gradient: Gradient of the variable.
            variable: What to move.
            learning_rate: Scalar; the rate of this update.
        """
        if self.weight_decay is not None:
            raise ValueError(
                "LARS must be given its weight decay when it is made. "
                f"Received: weight_decay={self.weight_decay} later. Make a "
                "new one: `LARS(..., weight_decay=...)`."
            )
        place = keras_optimizers.place_of(self, variable)
        dtype = tf.float64 if variable.dtype == "float64" else tf.float32
        # Slices of one row add up, and the velocity moves every row.
        gradient = tf.cast(tf.convert_to_tensor(gradient), dtype)
        weight = tf.cast(variable, dtype)
        decay = self.local_weight_decay if self._decays[place] else 0.0
        rate = tf.cast(learning_rate, dtype)
        if self._adapts[place]:
            rate *= self._local_rate(weight, gradient, decay)
        step = rate * (gradient + decay * weight if decay else gradient)
        velocity = self._velocities[place]
        change = self.momentum * tf.cast(velocity, dtype) + step
        self.assign(velocity, change)
        if self.nesterov:
            change = self.momentum * change + step
        self.assign_sub(variable, change)

    def get_config(self) -> dict[str, Any]:
        """Returns the configuration, for saving.

        Returns:
            Arguments of the constructor, and what is excluded.
        """
        return {
            **super().get_config(),
            "momentum": self.momentum,
            "weight_decay": self.local_weight_decay,
            "trust_coefficient": self.trust_coefficient,
            "epsilon": self.epsilon,
            "nesterov": self.nesterov,
            "excluded_from_layer_adaptation": list(self._excluded),
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: Any = None
    ) -> "LARS":
        """Creates an optimizer from its configuration.

        Args:
            config: What `get_config` returned.
            custom_objects: Classes by name, for the learning rate.

        Returns:
            The optimizer.
        """
        config = dict(config)
        excluded = config.pop("excluded_from_layer_adaptation", ())
        optimizer = super().from_config(config, custom_objects)
        optimizer.exclude_from_layer_adaptation(var_names=excluded)
        return optimizer

    def _local_rate(
        self, weight: tf.Tensor, gradient: tf.Tensor, decay: float
    ) -> tf.Tensor:
        size, slope = tf.norm(weight), tf.norm(gradient)
        ratio = tf.math.divide_no_nan(size, slope + decay * size + self.epsilon)
        return tf.where(
            tf.logical_and(size > 0, slope > 0),
            self.trust_coefficient * ratio,
            tf.ones_like(ratio),
        )

    def _is_adapted(self, variable: keras.Variable) -> bool:
        path = _path(variable)
        return (
            len(variable.shape) > 1
            and path.rpartition("/")[2] not in _NOT_ADAPTED
            and not any(re.search(pattern, path) for pattern in self._excluded)
        )


def _path(variable: keras.Variable | tf.Variable) -> str:
    return getattr(variable, "path", variable.name).partition(":")[0]
