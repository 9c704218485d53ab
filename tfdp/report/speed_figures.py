"""What a report draws of how fast a run was."""

import dataclasses
import statistics
from collections.abc import Callable, Iterator, Sequence

from tfdp.report.comparison import unit_of
from tfdp.report.curve import Curve, Point
from tfdp.report.figure import Figure, drawn
from tfdp.report.log_lines import number
from tfdp.report.run import Run, Window, replicas, worker

_MOST_MEMBERS = 8  # beyond them, the slowest, the middle and the fastest

Rates = dict[tuple[int, ...], float]


def speed_figures(runs: Sequence[Run]) -> list[Figure]:
    """Returns the figures of rates, times and memory that exist."""
    found = drawn([*_rates(runs), *_resources(runs)])
    return [dataclasses.replace(figure, zero=True) for figure in found]


def _rates(runs: Sequence[Run]) -> Iterator[Figure]:
    unit = unit_of(runs)
    yield Figure(
        "throughput",
        "Throughput",
        f"{unit} per second",
        f"{unit} of all workers over the time of the slowest.",
        [Curve(run.name, "total", _total(run)) for run in runs],
    )
    for member, rates_of, caption in [
        ("worker", _of_workers, "each worker over its own time"),
        ("replica", _of_replicas, "each replica over its worker's time"),
    ]:
        curves = [c for run in runs for c in _members(run, rates_of)]
        if len(curves) > len(runs):
            yield Figure(
                f"throughput_by_{member}",
                f"Throughput by {member}",
                f"{unit} per second",
                f"{unit} of {caption}.",
                curves,
            )


def _resources(runs: Sequence[Run]) -> Iterator[Figure]:
    yield Figure(
        "step_time",
        "Time of a step",
        "Milliseconds",
        "The median step, and the one that 95 % of steps are faster than, of "
        "the slowest worker.",
        [
            _largest(run, name, f"step_seconds_{quantile}", 1e3, style)
            for run in runs
            for name, quantile, style in [
                ("median", "p50", "solid"),
                ("95th percentile", "p95", "dashed"),
            ]
        ],
    )
    yield Figure(
        "memory",
        "Memory",
        "GiB",
        "Of the worker that used most, and of the replica that used most.",
        [
            curve
            for run in runs
            for curve in (
                _largest(run, "worker", "memory_bytes", 2**-30),
                _replica_memory(run),
            )
        ],
    )
    yield Figure(
        "arithmetic",
        "Arithmetic",
        "Billion operations per second",
        "Floating-point operations of all workers.",
        [Curve(run.name, "all workers", _arithmetic(run)) for run in runs],
    )


def _total(run: Run) -> list[Point]:
    return [
        Point(w.update, w.samples / w.seconds, w.seconds)
        for w in run.windows
        if w.seconds
    ]


def _of_workers(window: Window) -> Rates:
    return {
        (worker(line),): line["samples"] / line["seconds"]
        for line in window.workers
        if line["seconds"]
    }


def _of_replicas(window: Window) -> Rates:
    return {
        (worker(line), replica): samples / line["seconds"]
        for line in window.workers
        if line["seconds"]
        for replica, of in replicas(line)
        if (samples := number(of, "samples")) is not None
    }


def _members(run: Run, rates_of: Callable[[Window], Rates]) -> list[Curve]:
    windows = [(window, rates_of(window)) for window in run.windows]
    members = sorted({member for _, rates in windows for member in rates})
    points: dict[str, list[Point]] = {}
    for window, rates in windows:
        if len(members) > _MOST_MEMBERS:
            named = _extent(rates)
        else:
            named = {_name(m, members): rate for m, rate in rates.items()}
        for name, rate in named.items():
            point = Point(window.update, rate, window.seconds)
            points.setdefault(name, []).append(point)
    return [Curve(run.name, name, points[name]) for name in points]


def _extent(rates: Rates) -> dict[str, float]:
    if not rates:
        return {}
    return {
        "slowest": min(rates.values()),
        "median": statistics.median(rates.values()),
        "fastest": max(rates.values()),
    }


def _name(member: tuple[int, ...], members: Sequence[tuple[int, ...]]) -> str:
    of_worker, *replica = member
    if not replica:
        return f"worker {of_worker}"
    numbers = [number for _, number in members]
    if len(set(numbers)) == len(numbers):
        return f"replica {replica[0]}"
    return f"worker {of_worker}, replica {replica[0]}"


def _largest(
    run: Run, name: str, key: str, factor: float, style: str = "solid"
) -> Curve:
    points = [
        Point(window.update, factor * max(known), window.updates or 1)
        for window in run.windows
        if (known := _known(window, key))
    ]
    return Curve(run.name, name, points, style)


def _replica_memory(run: Run) -> Curve:
    points = []
    for window in run.windows:
        used = [
            memory
            for line in window.workers
            for _, of in replicas(line)
            if (memory := number(of, "memory_bytes"))
        ]
        if used:
            memory = 2**-30 * max(used)
            points.append(Point(window.update, memory, window.updates or 1))
    return Curve(run.name, "replica", points, "dashed")


def _arithmetic(run: Run) -> list[Point]:
    return [
        Point(window.update, 1e-9 * sum(known), window.seconds)
        for window in run.windows
        if (known := _known(window, "flops_per_second"))
    ]


def _known(window: Window, key: str) -> list[float]:
    values = [number(line, key) for line in window.workers]
    return [value for value in values if value is not None]
