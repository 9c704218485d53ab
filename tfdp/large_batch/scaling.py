"""Takes an optimizer from the batch it was tuned for to a larger one."""

from collections.abc import Callable
from typing import Any, Literal

import keras
from keras.optimizers.schedules import LearningRateSchedule

from tfdp.batch import BatchPlan
from tfdp.checks import checked_count
from tfdp.cluster import Cluster
from tfdp.large_batch.adascale import AdaScale
from tfdp.large_batch.learning_rate import (
    checked_number,
    linear_scaled_rate,
    sqrt_scaled_rate,
)
from tfdp.large_batch.momentum import MomentumCorrectedSGD
from tfdp.large_batch.schedules import ScaledSchedule
from tfdp.upstream import attributes
from tfdp.upstream.keras import keras_optimizers

_FACTORS: dict[str, Callable[..., float]] = {
    "linear": linear_scaled_rate,
    "sqrt": sqrt_scaled_rate,
    "none": lambda rate, **batches: rate,
}
_RULES = {
    "LARS": "linear",
    "MomentumCorrectedSGD": "linear",
    "SGD": "linear",
    "Adadelta": "sqrt",
    "Adafactor": "sqrt",
    "Adagrad": "sqrt",
    "Adam": "sqrt",
    "AdamW": "sqrt",
    "Adamax": "sqrt",
    "Ftrl": "sqrt",
    "Lamb": "sqrt",
    "Lion": "sqrt",
    "Muon": "sqrt",
    "Nadam": "sqrt",
    "RMSprop": "sqrt",
    "ScheduleFreeAdamW": "sqrt",
}


def scale_learning_rate(
    optimizer_or_schedule: float
    | LearningRateSchedule
    | keras.optimizers.Optimizer,
    plan: BatchPlan,
    rule: Literal["auto", "linear", "sqrt", "none"] = "auto",
    *,
    base_batch: int = 256,
    momentum_correction: bool = True,
    verbose: bool = True,
) -> Any:
    """Returns what it is given, with the learning rate for another batch.

    The rate is multiplied by a factor that follows from
    `k = plan.global_batch / base_batch`:

    | Rule       | Factor  | Decay of an update | Decay of an epoch |
    | ---------- | ------- | ------------------ | ----------------- |
    | `"linear"` | k       | x k                | unchanged         |
    | `"sqrt"`   | sqrt(k) | x sqrt(k)          | / sqrt(k)         |
    | `"none"`   | 1       | unchanged          | / k               |

    `"auto"` chooses by the class of the optimizer: linear for SGD, with or
    without momentum, and LARS; the square root for optimizers that divide by
    the size of the gradient: Adam and its kin, RMSprop, Adagrad, Lamb, Lion,
    Muon and the others of Keras.

    The decay in the table is the `weight_decay` of an optimizer, which Keras
    multiplies by the rate. What the square root makes of it is what normalized
    weight decay asks for; to keep the decay of an epoch instead, as Krizhevsky
    does, multiply `weight_decay` by sqrt(k). A regularizer, being part of the
    loss, is scaled with the gradient.

    A schedule is multiplied as a whole, also the start of a warm-up; see
    `ScaledSchedule` for another order, and `StretchedSchedule` to keep its
    length in epochs. Not corrected are a coefficient of momentum, and Adam's
    betas and epsilon, which Malladi et al. change along with the rate.

    Args:
        optimizer_or_schedule: A number; a schedule; or an optimizer not
            trained yet, also inside of `tfdp.DistributedOptimizer` or Keras's
            `LossScaleOptimizer`, compiled with or not.
        plan: The batch sizes to train with.
        rule: `"auto"`, `"linear"`, `"sqrt"` or `"none"`. Defaults to
            `"auto"`, which takes an optimizer.
        base_batch: Batch size at which the rate was tuned. Defaults to 256.
        momentum_correction: Whether `keras.optimizers.SGD` with momentum and
            a schedule becomes a `tfdp.MomentumCorrectedSGD`, whose momentum
            is not distorted by changes of the rate. Of changes made by
            callbacks nothing is known here. Defaults to `True`.
        verbose: Whether to print the factor. Only the chief of a cluster
            prints. Defaults to `True`.

    Returns:
        A float for a number, a `ScaledSchedule` for a schedule, and for an
        optimizer a new one of the same configuration. As with any optimizer,
        call this in the scope of the strategy.

    Raises:
        TypeError: If an argument has the wrong type, if the rate of an
            optimizer is a function, or if an optimizer cannot be copied.
        ValueError: If there is no such rule, or none is known for what is
            given; if the optimizer was built, consists of several, scales by
            itself, or accumulates otherwise than `plan`; if a size or a
            number is not positive; or if `TF_CONFIG`, which tells the chief,
            is malformed.
        RuntimeError: If a `DistributedOptimizer` that accumulates is scaled
            outside of the scope of its strategy.

    Example:

    >>> plan = tfdp.BatchPlan(
    ...     per_replica_batch=64, num_replicas=16, accumulation_steps=4
    ... )
    >>> optimizer = tfdp.scale_learning_rate(keras.optimizers.SGD(0.5), plan)
    tfdp: learning rate x 16 (linear rule for SGD, batch 256 -> 4,096)
    >>> float(optimizer.learning_rate.numpy())
    8.0
    >>> tfdp.scale_learning_rate(0.001, plan, "sqrt")
    tfdp: learning rate x 4 (sqrt rule, batch 256 -> 4,096)
    0.004

    Reference:
        Linear: Goyal et al., 2017, section 2.1; momentum: section 3, remark
        2. https://arxiv.org/abs/1706.02677
        Square root: Krizhevsky, 2014, section 5.
        https://arxiv.org/abs/1404.5997
        Betas and epsilon: Malladi et al., 2022.
        https://arxiv.org/abs/2205.10287
        Weight decay: Loshchilov and Hutter, 2019, appendix B.1.
        https://arxiv.org/abs/1711.05101
    """
    given = _checked(optimizer_or_schedule)
    if not isinstance(plan, BatchPlan):
        raise TypeError(
            "`plan` must be a `tfdp.BatchPlan`. Received: "
            f"plan={plan!r} ({type(plan).__name__}). Pass, for example, "
            "`tfdp.BatchPlan(global_batch=4096, per_replica_batch=64, "
            "num_replicas=strategy.num_replicas_in_sync)`."
        )
    base_batch = checked_count("base_batch", base_batch)
    inner = getattr(given, "inner_optimizer", given)
    is_optimizer = isinstance(given, keras.optimizers.Optimizer)
    if is_optimizer:
        _check_optimizer(inner)
        _check_same_accumulation(given, plan)
    chosen = _chosen_rule(rule, inner, is_optimizer)
    factor = _FACTORS[chosen](
        1.0, global_batch=plan.global_batch, base_batch=base_batch
    )
    kind, also = "", ""
    if is_optimizer:
        corrected = momentum_correction and _distorts_momentum(inner)
        kind = f" for {type(inner).__name__}"
        also = ", momentum corrected" if corrected else ""
        scaled = _scaled_optimizer(inner, factor, corrected)
        if given is not inner:
            scaled = _around(scaled, given)
    else:
        scaled = _scaled_rate(given, factor)
    if verbose and _is_chief():
        name = "no rule" if chosen == "none" else f"{chosen} rule"
        print(
            f"tfdp: learning rate x {factor:.4g} ({name}{kind}, batch "
            f"{base_batch:,} -> {plan.global_batch:,}){also}"
        )
    return scaled


def _checked(given: Any) -> Any:
    if isinstance(given, (LearningRateSchedule, keras.optimizers.Optimizer)):
        return given
    return checked_number(
        "optimizer_or_schedule",
        given,
        expected="a number, a `LearningRateSchedule` or an optimizer such as "
        "`keras.optimizers.SGD(0.1)`",
    )


def _chosen_rule(rule: str, given: Any, is_optimizer: bool) -> str:
    if rule not in ("auto", *_FACTORS):
        raise ValueError(
            f"`rule` must be one of auto, {', '.join(_FACTORS)}. "
            f"Received: rule={rule!r}."
        )
    if rule != "auto":
        return rule
    kind = type(given).__name__
    if not is_optimizer or kind not in _RULES:
        raise ValueError(
            "`rule` must be named where no optimizer of Keras or tfdp tells "
            f'it. Received: rule="auto", optimizer_or_schedule={kind}. Pass '
            'rule="linear" for SGD and the like, or rule="sqrt" for an '
            "optimizer that divides by the size of the gradient."
        )
    return _RULES[kind]


def _check_optimizer(optimizer: keras.optimizers.Optimizer) -> None:
    kind = type(optimizer).__name__
    if isinstance(optimizer, AdaScale):
        raise ValueError(
            "An optimizer that scales its rate by itself must not be scaled. "
            f"Received: optimizer_or_schedule={kind}. Use it as it is, with "
            "the rate of the base batch."
        )
    if keras_optimizers.is_multi_optimizer(optimizer):
        raise ValueError(
            "The optimizers of a `MultiOptimizer` must be scaled one by one, "
            "as each may need another rule. Received: "
            f"optimizer_or_schedule={kind}. Make it from optimizers that "
            "`scale_learning_rate` returned."
        )
    if optimizer.built:
        raise ValueError(
            "An optimizer must be scaled before it is built or trains, "
            "because it is copied without its state. Received: "
            f"optimizer_or_schedule={kind} after "
            f"{int(optimizer.iterations.numpy())} updates. Pass a new one, or "
            "assign to the `learning_rate` of this one."
        )
    rate = keras_optimizers.given_rate(optimizer)
    if not isinstance(rate, (float, LearningRateSchedule)):
        raise TypeError(
            "The `learning_rate` of an optimizer must be a number or a "
            f"`LearningRateSchedule` to be scaled. Received: {kind} with "
            f"learning_rate={rate!r} ({type(rate).__name__}). Multiply what "
            "the function returns, or write it as a schedule."
        )


def _check_same_accumulation(
    optimizer: keras.optimizers.Optimizer, plan: BatchPlan
) -> None:
    for name in ("accumulation_steps", "gradient_accumulation_steps"):
        steps = getattr(optimizer, name, None)
        if steps is not None and steps != plan.accumulation_steps:
            raise ValueError(
                "The optimizer must accumulate as many micro-batches as the "
                f"plan says. Received: {name}={steps} of "
                f"{type(optimizer).__name__}, accumulation_steps="
                f"{plan.accumulation_steps} of plan. Pass "
                f"`{name}=plan.accumulation_steps` to it."
            )


def _distorts_momentum(optimizer: keras.optimizers.Optimizer) -> bool:
    # A subclass may make something else of its momentum.
    if type(optimizer) is not keras.optimizers.SGD or not optimizer.momentum:
        return False
    return isinstance(
        keras_optimizers.given_rate(optimizer), LearningRateSchedule
    )


def _scaled_optimizer(
    optimizer: keras.optimizers.Optimizer, factor: float, corrected: bool
) -> keras.optimizers.Optimizer:
    return keras_optimizers.copy_of(
        optimizer,
        kind=MomentumCorrectedSGD if corrected else type(optimizer),
        learning_rate=_scaled_rate(
            keras_optimizers.given_rate(optimizer), factor
        ),
    )


def _around(
    optimizer: keras.optimizers.Optimizer, given: keras.optimizers.Optimizer
) -> keras.optimizers.Optimizer:
    """Wraps an optimizer in another, as the given one wraps its own."""
    kind = type(given)
    try:
        copy = kind(**{**given.get_config(), "inner_optimizer": optimizer})
    except (TypeError, NotImplementedError) as error:
        raise _uncopied(kind, f"{type(error).__name__}: {error}") from error
    for name, value in vars(given).items():
        if attributes.is_plain(value) and value != vars(copy).get(name):
            raise _uncopied(kind, f"another `{name}` than {value!r}")
    return copy


def _uncopied(kind: type, what: str) -> TypeError:
    return TypeError(
        "An optimizer around another must say in `get_config` what its "
        f"constructor was given. Received: {kind.__name__}, whose copy has "
        f"{what}. Write its `get_config`, or scale the optimizer inside of it "
        "before it is wrapped."
    )


def _scaled_rate(
    rate: float | LearningRateSchedule, factor: float
) -> float | LearningRateSchedule:
    if isinstance(rate, LearningRateSchedule):
        return ScaledSchedule(rate, factor)
    return rate * factor


def _is_chief() -> bool:
    cluster = Cluster.from_environment()
    return cluster is None or cluster.is_chief
