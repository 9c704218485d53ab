"""How many samples stand behind a step, an update and an epoch."""

import dataclasses
import math
import warnings

from tfdp.checks import checked_count


@dataclasses.dataclass(frozen=True, init=False)
class BatchPlan:
    """The sizes behind one weight update, and the one missing of them.

    `per_replica_batch` x `num_replicas` is the micro-batch, which one
    `train_step` sees; the micro-batch x `accumulation_steps` is the global
    batch, which one weight update sees. Any three sizes give the fourth; all
    four are checked against each other.

    Where the number of replicas changes, from run to run or as workers are
    lost and come back, give `max_per_replica_batch` instead of
    `per_replica_batch`. Every update then sees `global_batch` samples, however
    many replicas there are: in the fewest micro-batches of equal size that
    fit. One that does not divide by the replicas is shared out unevenly, as
    gradients are weighed by their samples. Micro-batches are of equal size
    where their number divides the global batch: choose one with many divisors,
    such as a power of two or a multiple of 12. A prime one may be cut into
    single samples, which is warned of.

    Args:
        global_batch: Samples behind one weight update, counted over replicas,
            workers and accumulation steps.
        per_replica_batch: Samples that one replica processes at a time; the
            largest share of a micro-batch, where they are not all the same.
        num_replicas: Copies of the model over all workers, that is
            `strategy.num_replicas_in_sync`.
        accumulation_steps: Micro-batches per weight update.
        max_per_replica_batch: Samples that one replica can process at a time,
            which device memory limits. Given with `global_batch` and
            `num_replicas` alone; the other sizes follow.

    Attributes:
        micro_batch: Samples behind one `train_step`, over all replicas; the
            size to batch a dataset with.

    Raises:
        TypeError: If a size is not an integer.
        ValueError: If a size is below 1, if more than one is missing, if no
            whole number makes the sizes fit together, or if there is a limit
            and more replicas than samples.

    Example:

    >>> plan = BatchPlan(
    ...     global_batch=1024, per_replica_batch=64, num_replicas=4
    ... )
    >>> plan.accumulation_steps, plan.micro_batch
    (4, 256)
    >>> print(plan)  # doctest: +NORMALIZE_WHITESPACE
    global batch 1,024 = 64 per replica x 4 replicas x 4 accumulation steps
    (micro-batch 256)

    Whatever the number of replicas:

    >>> for replicas in (4, 3, 1):
    ...     print(
    ...         BatchPlan(
    ...             global_batch=1024,
    ...             max_per_replica_batch=256,
    ...             num_replicas=replicas,
    ...         )
    ...     )  # doctest: +NORMALIZE_WHITESPACE
    global batch 1,024 = 256 per replica x 4 replicas x 1 accumulation step
    (micro-batch 1,024)
    global batch 1,024 = micro-batch 512 over 3 replicas (up to 171 each) x 2
    accumulation steps
    global batch 1,024 = 256 per replica x 1 replica x 4 accumulation steps
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
        max_per_replica_batch: int | None = None,
    ) -> None:
        """Checks the sizes and works out the missing ones."""
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
        if max_per_replica_batch is None:
            complete = _completed(given)
        else:
            limit = checked_count(
                "max_per_replica_batch", max_per_replica_batch
            )
            complete = _within(limit, given)
        for name, size in complete.items():
            object.__setattr__(self, name, size)

    @property
    def micro_batch(self) -> int:
        """Samples behind one `train_step`, over all replicas."""
        return self.global_batch // self.accumulation_steps

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
        replicas = _counted(self.num_replicas, "replica")
        steps = _counted(self.accumulation_steps, "accumulation step")
        begin = f"global batch {self.global_batch:,} ="
        if self.micro_batch % self.num_replicas == 0:
            return (
                f"{begin} {self.per_replica_batch:,} per replica x {replicas} "
                f"x {steps} (micro-batch {self.micro_batch:,})"
            )
        return (
            f"{begin} micro-batch {self.micro_batch:,} over {replicas} "
            f"(up to {self.per_replica_batch:,} each) x {steps}"
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
    if global_batch != product and not _is_shared_out(**given):
        raise ValueError(
            f"`global_batch` must equal {' x '.join(factors)}. "
            f"Received: {_listed(given)} (product {product}). "
            f"Use global_batch={product}, or leave out the size that is to "
            "follow from the others."
        )
    return given


def _is_shared_out(
    global_batch: int,
    per_replica_batch: int,
    num_replicas: int,
    accumulation_steps: int,
) -> bool:
    """Whether the sizes are those of a plan whose shares differ."""
    micro_batch, left = divmod(global_batch, accumulation_steps)
    return not left and per_replica_batch == -(-micro_batch // num_replicas)


def _within(limit: int, given: dict[str, int]) -> dict[str, int]:
    received = f"{_listed(given)}, max_per_replica_batch={limit}"
    if set(given) != {"global_batch", "num_replicas"}:
        raise ValueError(
            "`max_per_replica_batch` goes with `global_batch` and "
            "`num_replicas`, and no other size, as those follow. Received: "
            f"{received}. Pass these three, or no `max_per_replica_batch`."
        )
    global_batch, num_replicas = given["global_batch"], given["num_replicas"]
    if global_batch < num_replicas:
        raise ValueError(
            "`global_batch` must be at least `num_replicas`, so that each "
            f"replica has a sample. Received: {received}. Use "
            f"global_batch={num_replicas}, or fewer replicas."
        )
    largest = min(global_batch, limit * num_replicas)
    steps = min(
        steps
        for low in range(1, math.isqrt(global_batch) + 1)
        if global_batch % low == 0
        for steps in (low, global_batch // low)
        if steps * largest >= global_batch
    )
    fewest = math.ceil(global_batch / largest)
    if steps > 2 * fewest:
        below = global_batch - global_batch % fewest
        warnings.warn(
            "`global_batch` should have divisors, so that few micro-batches of "
            f"equal size make it up. Received: {received}, which takes "
            f"{steps:,} micro-batches where {fewest:,} would do. Use "
            f"global_batch={below} or {below + fewest}, or a power of two, "
            "which suits any number of replicas.",
            stacklevel=3,
        )
    return {
        "global_batch": global_batch,
        "per_replica_batch": -(-global_batch // (steps * num_replicas)),
        "num_replicas": num_replicas,
        "accumulation_steps": steps,
    }


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
