"""How many samples stand behind a step, an update and an epoch."""

import dataclasses
import math
import numbers
import operator
from typing import Any, SupportsIndex

# What an integer of TensorFlow holds.
_LARGEST_COUNT = 2**63 - 1


def checked_count(
    name: str,
    value: SupportsIndex | None,
    *,
    minimum: int = 1,
    maximum: int = _LARGEST_COUNT,
) -> int:
    """Returns `value` as an `int`, after checking that it is a count.

    Args:
        name: Name of the argument, for the message.
        value: The argument. Integers of NumPy are integers, booleans are not.
        minimum: Smallest value allowed. Defaults to 1.
        maximum: Largest value allowed. Defaults to what 64 bits hold.

    Returns:
        `int(value)`.

    Raises:
        TypeError: If `value` is not an integer.
        ValueError: If `value` is below `minimum` or above `maximum`.
    """
    try:
        if value is None or isinstance(value, bool):
            raise TypeError
        count = operator.index(value)
    except TypeError:
        raise TypeError(
            f"`{name}` must be an integer. "
            f"Received: {name}={value!r} ({type(value).__name__})."
        ) from None
    if count < minimum:
        raise ValueError(
            f"`{name}` must be at least {minimum}. Received: {name}={count}."
        )
    if count > maximum:
        raise ValueError(
            f"`{name}` must be at most {maximum}. Received: {name}="
            f"{count if count < 10**40 else 'a number of many digits'}."
        )
    return count


def checked_verbose(value: Any) -> int:
    """Returns how much to print, after checking it.

    Args:
        value: The argument `verbose`: 0, 1 or 2; booleans will do.

    Returns:
        `int(value)`.

    Raises:
        TypeError: If `value` is not an integer.
        ValueError: If it is another one.
    """
    if isinstance(value, bool):
        return int(value)
    return checked_count("verbose", value, minimum=0, maximum=2)


def checked_number(
    name: str,
    value: Any,
    *,
    expected: str = "a number",
    zero_allowed: bool = False,
    maximum: float = math.inf,
) -> float:
    """Returns `value` as a `float`, after checking that it is positive.

    Args:
        name: Name of the argument, for the message.
        value: The argument. Numbers of NumPy are numbers, booleans are not.
        expected: What the argument must be, for the message.
        zero_allowed: Whether zero will do. Defaults to `False`.
        maximum: Largest value allowed. Defaults to any.

    Returns:
        `float(value)`.

    Raises:
        TypeError: If `value` is not a number.
        ValueError: If `value` is negative, not finite, above `maximum`, or a
            zero that is not allowed.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(
            f"`{name}` must be {expected}. "
            f"Received: {name}={value!r} ({type(value).__name__})."
        )
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if (
        not math.isfinite(number)
        or number < 0
        or (number == 0 and not zero_allowed)
    ):
        sign = "not negative" if zero_allowed else "positive"
        raise ValueError(
            f"`{name}` must be finite and {sign}. Received: {name}={number}."
        )
    if number > maximum:
        raise ValueError(
            f"`{name}` must be at most {maximum:,g}. Received: {name}={number}."
        )
    return number


@dataclasses.dataclass(frozen=True, init=False)
class BatchPlan:
    """The sizes behind one weight update, and the one missing of them.

    `per_replica_batch` x `num_replicas` is the micro-batch, which one
    `train_step` sees; the micro-batch x `accumulation_steps` is the global
    batch, which one weight update sees. Any three sizes give the fourth; all
    four are checked against each other.

    Args:
        global_batch: Samples behind one weight update, counted over replicas,
            workers and accumulation steps.
        per_replica_batch: Samples that one replica processes at a time. It is
            what device memory limits.
        num_replicas: Copies of the model over all workers, that is
            `strategy.num_replicas_in_sync`.
        accumulation_steps: Micro-batches per weight update.

    Attributes:
        micro_batch: Samples behind one `train_step`, over all replicas; the
            size to batch a dataset with.

    Raises:
        TypeError: If a size is not an integer.
        ValueError: If a size is below 1, if more than one is missing, or if
            no whole number makes the sizes fit together.

    Example:

    >>> plan = BatchPlan(
    ...     global_batch=1024, per_replica_batch=64, num_replicas=4
    ... )
    >>> plan.accumulation_steps, plan.micro_batch
    (4, 256)
    >>> print(plan)  # doctest: +NORMALIZE_WHITESPACE
    global batch 1,024 = 64 per replica x 4 replicas x 4 accumulation steps
    (micro-batch 256)
    """

    global_batch: int
    per_replica_batch: int
    num_replicas: int
    accumulation_steps: int

    def __init__(
        self,
        *,
        global_batch: int | None = None,
        per_replica_batch: int | None = None,
        num_replicas: int | None = None,
        accumulation_steps: int | None = None,
    ) -> None:
        """Checks the sizes and works out the missing one."""
        sizes = {
            "global_batch": global_batch,
            "per_replica_batch": per_replica_batch,
            "num_replicas": num_replicas,
            "accumulation_steps": accumulation_steps,
        }
        given = {
            name: checked_count(name, size)
            for name, size in sizes.items()
            if size is not None
        }
        for name, size in _completed(given).items():
            object.__setattr__(self, name, size)

    @property
    def micro_batch(self) -> int:
        """Samples behind one `train_step`, over all replicas."""
        return self.per_replica_batch * self.num_replicas

    def updates_per_epoch(self, num_samples: int) -> int:
        """Returns the number of weight updates in one pass over the data.

        A last micro-batch may be short, and a last cycle of fewer than
        `accumulation_steps` micro-batches is an update of its own. For a
        dataset batched with `drop_remainder=True`, count only the samples
        that remain.

        Args:
            num_samples: Samples in the dataset, over all workers.

        Returns:
            The number of updates, as a learning rate schedule counts them.

        Raises:
            TypeError: If `num_samples` is not an integer.
            ValueError: If `num_samples` is below 1.

        Example:

        >>> plan = BatchPlan(
        ...     per_replica_batch=64, num_replicas=4, accumulation_steps=4
        ... )
        >>> plan.updates_per_epoch(50_000)
        49
        """
        samples = checked_count("num_samples", num_samples)
        micro_batches = math.ceil(samples / self.micro_batch)
        return math.ceil(micro_batches / self.accumulation_steps)

    def __str__(self) -> str:
        """Returns the plan as one line that shows the multiplication."""
        return (
            f"global batch {self.global_batch:,} = "
            f"{self.per_replica_batch:,} per replica x "
            f"{_counted(self.num_replicas, 'replica')} x "
            f"{_counted(self.accumulation_steps, 'accumulation step')} "
            f"(micro-batch {self.micro_batch:,})"
        )


def _completed(given: dict[str, int]) -> dict[str, int]:
    names = [field.name for field in dataclasses.fields(BatchPlan)]
    missing = [name for name in names if name not in given]
    if len(missing) > 1:
        raise ValueError(
            "`BatchPlan` needs at least three of its four sizes. "
            f"Received: {_listed(given) or 'none'}. "
            f"Missing: {', '.join(missing)}; pass all of them but one."
        )
    factors = {name: given[name] for name in names[1:] if name in given}
    product = math.prod(factors.values())
    if missing == ["global_batch"]:
        return {**given, "global_batch": product}
    global_batch = given["global_batch"]
    if missing:
        size, remainder = divmod(global_batch, product)
        if remainder:
            raise ValueError(
                f"`global_batch` must be divisible by {' x '.join(factors)}. "
                f"Received: {_listed(given)} (divisor {product}). "
                f"{_way_out(global_batch, factors)}."
            )
        return {**given, missing[0]: size}
    if global_batch != product:
        raise ValueError(
            f"`global_batch` must equal {' x '.join(factors)}. "
            f"Received: {_listed(given)} (product {product}). "
            f"Use global_batch={product}, or leave out the size that is to "
            "follow from the others."
        )
    return given


def _way_out(global_batch: int, factors: dict[str, int]) -> str:
    product = math.prod(factors.values())
    below = global_batch - global_batch % product
    sizes = [str(size) for size in (below, below + product) if size]
    way = f"Use global_batch={' or '.join(sizes)}"
    # A somewhat smaller per-replica batch keeps the global batch, which is
    # what decides how the model trains, and still fits in memory.
    wanted = factors.get("per_replica_batch", 1)
    share, remainder = divmod(global_batch, product // wanted)
    largest = 0 if remainder else min(wanted, share)
    for size in range(largest, largest // 2, -1):
        if share % size == 0 and size != wanted:
            return f"{way}, or per_replica_batch={size}"
    return way


def _listed(sizes: dict[str, int]) -> str:
    return ", ".join(f"{name}={size}" for name, size in sizes.items())


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
