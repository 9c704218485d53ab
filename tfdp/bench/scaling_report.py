"""What was measured with some workers, and what to expect of more."""

import dataclasses
import math
from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from tfdp.bench.cost_model import CostModel, Point, left_out_errors

_PREDICTED = (8, 64, 512)
_WORTHWHILE = 0.9
# Batches of data that do not divide evenly differ a little.
_SAME_BATCH = 0.1


@dataclasses.dataclass(frozen=True)
class Measurement:
    """A training with some number of workers.

    Attributes:
        point: The median of what was measured.
        slowest: Samples per second of the slowest window of updates.
        fastest: That of the fastest.
        updates: Number of updates measured.
        unit: What samples are called.
        is_bound: Whether devices work asynchronously, so that the parts of a
            step are bounds.
    """

    point: Point
    slowest: float
    fastest: float
    updates: int
    unit: str
    is_bound: bool

    @property
    def spread(self) -> float:
        """Half of what lies between slowest and fastest, over the median."""
        extent = self.fastest - self.slowest
        return extent / 2 / self.point.samples_per_second


def print_table(measurements: Sequence[Measurement]) -> None:
    """Prints a row for each number of workers.

    Args:
        measurements: In order; first that of one worker.
    """
    unit = measurements[0].unit
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 0, 0, 1),
        pad_edge=False,
        title="Measured; ms per update",
        title_justify="left",
    )
    for name in (
        *("workers", "replicas", f"{unit}/s", "+-", "efficiency"),
        *("own", "waiting", "communication"),
    ):
        table.add_column(name, justify="right", min_width=len(name))
    for each in measurements:
        point = each.point
        table.add_row(
            f"{point.workers}",
            f"{point.replicas}",
            f"{point.samples_per_second:,.0f}",
            _percent(each.spread),
            _percent(_efficiency(point, measurements[0].point)),
            *(
                f"{1000 * seconds:,.2f}"
                for seconds in (
                    point.own,
                    point.waiting,
                    point.communication,
                )
            ),
        )
    Console().print(table)


def prediction(
    measurements: Sequence[Measurement],
    *,
    bandwidth: float | None = None,
    latency: float | None = None,
    cpus_per_worker: int | None = None,
) -> Iterator[str]:
    """Says what to expect of more workers, and under which assumptions.

    Args:
        measurements: In order of workers, first that of one.
        bandwidth: Bytes per second of the network in mind. Defaults to
            `None`: as measured.
        latency: Seconds of a message there. Defaults to `None`: as measured.
        cpus_per_worker: Cores that each worker had. Defaults to `None`: all
            workers shared all cores.

    Yields:
        Lines.
    """
    points = [each.point for each in measurements]
    batches = [point.per_replica_batch for point in points]
    if max(batches) > (1 + _SAME_BATCH) * min(batches):
        yield (
            "No prediction: the per-replica batch must be the same for any "
            "number of workers. Received: "
            f"{', '.join(f'{batch:.3g}' for batch in batches)}. Make the "
            "micro-batch grow with the replicas, as with "
            "tfdp.BatchPlan(per_replica_batch=...)."
        )
        return
    if points[-1].workers == 1:
        yield "No prediction: measure 1 worker and at least one larger number."
        return
    fitted = CostModel.fit(points)
    model = dataclasses.replace(
        fitted,
        latency=fitted.latency if latency is None else latency,
        seconds_per_byte=fitted.seconds_per_byte
        if bandwidth is None
        else 1 / bandwidth,
    )
    steps = points[-1].accumulation_steps
    yield f"Predicted, with accumulation_steps={steps} as measured:"
    for workers in _PREDICTED:
        yield f"  {workers:3} workers: {_expected(model, workers, points[-1])}"
    yield from _validation(points)
    yield "Assumed:"
    yield f"  - {_network(model, bandwidth, latency)}"
    yield from (f"  - {text}" for text in _assumptions(points, fitted))
    if cpus_per_worker is None:
        yield "  - workers share all cores here, and would there"
    else:
        yield f"  - every worker has {cpus_per_worker} core(s) of its own"
    if any(each.is_bound for each in measurements):
        yield "  - devices are asynchronous: parts of a step are bounds only"


def _expected(model: CostModel, workers: int, measured: Point) -> str:
    steps = measured.accumulation_steps
    text = f"efficiency {_percent(model.efficiency(workers, steps))}; "
    enough = model.smallest_accumulation(workers, efficiency=_WORTHWHILE)
    aim = _percent(_WORTHWHILE)
    if enough is None:
        limit = model.efficiency(workers, 10**9)
        return (
            f"{text}no accumulation brings it to {aim} "
            f"({_percent(limit)} at most)"
        )
    replicas = workers * model.replicas_per_worker
    batch = measured.per_replica_batch * replicas * enough
    return (
        f"{text}accumulation_steps={enough} for {aim} (a global batch of "
        f"{batch:,.0f}), or LocalSGD(sync_every={math.ceil(enough / steps)}) "
        "at the batch of now, at its price"
    )


def _validation(points: Sequence[Point]) -> Iterator[str]:
    errors = left_out_errors(points)
    if not errors:
        yield (
            "Not validated: that needs at least two numbers of workers above "
            "1, of which each is predicted from the rest."
        )
        return
    each = ", ".join(
        f"{workers} workers {100 * error:+.0f} %"
        for workers, error in errors.items()
    )
    yield f"Validated by leaving one out; error of an update's time: {each}"


def _network(
    model: CostModel, bandwidth: float | None, latency: float | None
) -> str:
    seconds = f"{1e6 * model.latency:,.0f} µs per message"
    seconds += " (fitted)" if latency is None else " (given)"
    if model.seconds_per_byte:
        rate = f"{8e-9 / model.seconds_per_byte:.3g} Gbit/s"
        rate += " (fitted)" if bandwidth is None else " (given)"
    else:
        rate = "no cost of size was seen"
    size = f"{model.gradient_bytes / 1e6:,.3g} MB of gradients"
    there = (
        "links are as between processes of this machine"
        if bandwidth is None and latency is None
        else "links"
    )
    return f"{there}: {seconds}, {rate}; a ring all-reduce of {size}"


def _assumptions(points: Sequence[Point], model: CostModel) -> Iterator[str]:
    yield (
        f"a replica takes {1000 * model.own:,.3g} ms by itself for its "
        f"{points[-1].per_replica_batch:,.3g} samples of a micro-batch, as in "
        f"the mean of the runs with several workers (one alone: "
        f"{1000 * model.alone:,.3g} ms), for any number and accumulation"
    )
    yield (
        f"times of replicas vary by {1000 * model.jitter:,.3g} ms, "
        "independently; no worker is slower than others for long"
    )
    yield (
        "an update makes one all-reduce of gradients, all of which are taken "
        "as dense, and each micro-batch one sum of logs and votes"
    )
    if len({point.workers for point in points}) == 2:
        yield (
            "all of a vote's time grows with the workers, which is "
            "pessimistic; two numbers above 1 would tell"
        )


def _efficiency(point: Point, one: Point) -> float:
    rates = [p.samples_per_second / p.replicas for p in (point, one)]
    return rates[0] / rates[1]


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
