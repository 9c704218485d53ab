"""The charts of asynchronous workers: how stale, and how long they wait."""

import collections
from collections.abc import Sequence

import altair as alt

from tfdp.report.asynchrony import WorkerPart
from tfdp.report.charts.chart import Chart, legend, spec_of, width_of
from tfdp.report.charts.colors import NUM_SERIES, series
from tfdp.report.words import figure, milliseconds, percent

_HEIGHT = 260
_HEIGHT_OF_BAR = 30
# More than that can hardly be told apart.
_MOST_BARS = 60
_COLORS = {"computing": series(0), "waiting for room": series(3)}


def staleness_charts(workers: Sequence[WorkerPart]) -> list[Chart]:
    """Returns the charts; none where no worker was asynchronous.

    Args:
        workers: What each worker did.
    """
    return [_histogram(workers), _waiting(workers)] if workers else []


def _histogram(workers: Sequence[WorkerPart]) -> Chart:
    return Chart(
        "staleness",
        "Staleness of updates",
        "Updates of others between the read of a gradient's weights and its "
        "own update.",
        ["Worker", "Updates", "Mean staleness", "Largest"],
        [
            [
                part.name,
                f"{part.updates:,}",
                figure(part.mean_staleness),
                f"{max(part.staleness):,}",
            ]
            for part in workers
        ],
        spec_of(
            _stacked(workers),
            height=_HEIGHT,
            description="Bars: how many updates of each worker were how stale.",
        ),
    )


def _stacked(workers: Sequence[WorkerPart]) -> alt.Chart:
    largest = max(max(part.staleness) for part in workers)
    width = 1 + largest // _MOST_BARS
    order = [_label(place, width) for place in range(1 + largest // width)]
    rows = _counted(workers, width)
    labels = list(dict.fromkeys(_series_names(workers)))
    return (
        alt.Chart(alt.Data(values=rows))
        .mark_bar(stroke="var(--ground)", strokeWidth=1)
        .encode(
            x=alt.X(
                "stale:N",
                title="Staleness",
                sort=order,
                scale=alt.Scale(domain=order),
                axis=alt.Axis(labelAngle=0, labelOverlap=True),
            ),
            y=alt.Y("updates:Q", title="Updates"),
            color=alt.Color(
                "worker:N",
                legend=legend(labels, "square", symbolStrokeWidth=0),
                scale=alt.Scale(
                    domain=labels, range=[*map(series, range(len(labels)))]
                ),
            ),
            tooltip=[
                alt.Tooltip("worker:N", title="of"),
                alt.Tooltip("stale:N", title="staleness"),
                alt.Tooltip("updates:Q", title="updates", format=","),
            ],
        )
    )


def _counted(
    workers: Sequence[WorkerPart], width: int
) -> list[dict[str, str | int]]:
    counts = collections.Counter[tuple[int, str]]()
    for name, part in zip(_series_names(workers), workers, strict=True):
        for stale, count in part.staleness.items():
            counts[stale // width, name] += count
    return [
        {"worker": name, "stale": _label(place, width), "updates": count}
        for (place, name), count in sorted(counts.items())
    ]


def _series_names(workers: Sequence[WorkerPart]) -> list[str]:
    """Returns what each worker is called, some together if they are many."""
    names = [part.name for part in workers]
    if len(names) <= NUM_SERIES:
        return names
    first = NUM_SERIES - 1
    return names[:first] + ["other workers"] * (len(names) - first)


def _label(place: int, width: int) -> str:
    first = place * width
    return str(first) if width == 1 else f"{first} – {first + width - 1}"


def _waiting(workers: Sequence[WorkerPart]) -> Chart:
    return Chart(
        "room",
        "What an update takes each worker",
        "Its gradient, and waiting for room, so that no gradient is too stale.",
        ["Worker", "Computing", "Waiting for room", "Share"],
        [
            [
                part.name,
                milliseconds(part.computing_milliseconds),
                milliseconds(part.room_milliseconds),
                percent(part.waiting_share),
            ]
            for part in workers
        ],
        spec_of(
            _bars(workers),
            height=max(80, _HEIGHT_OF_BAR * len(workers)),
            description="A bar for each worker: milliseconds per update of "
            "computing and of waiting for room.",
        ),
    )


def _bars(workers: Sequence[WorkerPart]) -> alt.Chart:
    names = [part.name for part in workers]
    rows = [
        {"bar": part.name, "part": name, "place": place, "ms": ms or 0.0}
        for part in workers
        for place, (name, ms) in enumerate(
            zip(
                _COLORS,
                (part.computing_milliseconds, part.room_milliseconds),
                strict=True,
            )
        )
    ]
    return (
        alt.Chart(alt.Data(values=rows))
        .mark_bar(stroke="var(--ground)", strokeWidth=1)
        .encode(
            x=alt.X("ms:Q", title="Milliseconds per update"),
            y=alt.Y("bar:N", title=None, sort=names),
            order="place:Q",
            color=alt.Color(
                "part:N",
                legend=legend(
                    _COLORS,
                    "square",
                    beside=width_of(names),
                    symbolStrokeWidth=0,
                ),
                scale=alt.Scale(domain=[*_COLORS], range=[*_COLORS.values()]),
            ),
            tooltip=[
                alt.Tooltip("bar:N", title="of"),
                alt.Tooltip("part:N", title="part"),
                alt.Tooltip("ms:Q", title="ms per update", format=",.3~r"),
            ],
        )
    )
