"""The chart of where the time of an update goes, replica by replica."""

from collections.abc import Sequence

import altair as alt

from tfdp.report.charts.chart import Chart, color_of_parts, spec_of
from tfdp.report.run import PARTS, ReplicaTime, Run
from tfdp.report.words import UNKNOWN, milliseconds

_COLORS = {
    "start": "var(--series-6)",
    "input": "var(--series-2)",
    "compute": "var(--series-0)",
    "waiting": "var(--series-4)",
    "communication": "var(--series-1)",
    "room": "var(--series-3)",
    "other": "var(--series-7)",
}
_HEIGHT_OF_BAR = 30


def breakdown_chart(runs: Sequence[Run]) -> Chart | None:
    """Returns the chart, or `None` where no run has measured it.

    Args:
        runs: The runs; those that have not measured it are left out.
    """
    bars = {
        _label(run, time, len(runs) > 1): time
        for run in runs
        for time in run.replica_times
    }
    if not bars:
        return None
    parts = [p for p in PARTS if any(p in time.parts for time in bars.values())]
    return Chart(
        "breakdown",
        "Where the time of an update goes",
        _caption(runs, parts),
        ["Replica", *(part.capitalize() for part in parts), "Sum"],
        [_row(label, time, parts) for label, time in bars.items()],
        spec_of(
            _bars(bars, parts),
            height=max(80, _HEIGHT_OF_BAR * len(bars)),
            description=(
                "A bar for each replica: milliseconds per update of "
                f"{', '.join(parts)}."
            ),
        ),
    )


def _label(run: Run, time: ReplicaTime, several: bool) -> str:
    label = f"replica {time.replica}"
    numbers = [of.replica for of in run.replica_times]
    if len(set(numbers)) < len(numbers):
        label = f"worker {time.worker}, {label}"
    return f"{run.name}: {label}" if several else label


def _caption(runs: Sequence[Run], parts: Sequence[str]) -> str:
    caption = "Mean of all updates that were measured."
    if "waiting" in parts:
        caption += " Waiting is for the slowest replica."
    if "room" in parts:
        caption += " Room is waiting until a gradient is not too stale."
    bounds = set[str]().union(*(run.bounds for run in runs))
    if bounded := [part for part in parts if part in bounds]:
        which = "all" if bounded == list(parts) else ", ".join(bounded)
        caption += (
            " The device works while the program goes on, so the times are "
            f"only bounds: {which}."
        )
    return caption


def _row(label: str, time: ReplicaTime, parts: Sequence[str]) -> list[str]:
    known = [
        milliseconds(time.parts[part]) if part in time.parts else UNKNOWN
        for part in parts
    ]
    return [label, *known, milliseconds(sum(time.parts.values()))]


def _bars(bars: dict[str, ReplicaTime], parts: Sequence[str]) -> alt.Chart:
    rows = [
        {"bar": label, "part": part, "place": place, "ms": time.parts[part]}
        for label, time in bars.items()
        for place, part in enumerate(parts)
        if part in time.parts
    ]
    return (
        alt.Chart(alt.Data(values=rows))
        .mark_bar(stroke="var(--ground)", strokeWidth=1)
        .encode(
            x=alt.X("ms:Q", title="Milliseconds per update"),
            y=alt.Y("bar:N", title=None, sort=list(bars)),
            order="place:Q",
            color=color_of_parts(parts, _COLORS, bars),
            tooltip=[
                alt.Tooltip("bar:N", title="of"),
                alt.Tooltip("part:N", title="part"),
                alt.Tooltip("ms:Q", title="ms per update", format=",.3~r"),
            ],
        )
    )
