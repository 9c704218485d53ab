"""The chart of what share of a job's time was updates that remain."""

from collections.abc import Sequence

import altair as alt

from tfdp.report.charts.chart import Chart, color_of_parts, spec_of
from tfdp.report.goodput import PARTS, Goodput
from tfdp.report.run import Run
from tfdp.report.words import duration, percent

_COLORS = {
    "updates": "var(--series-0)",
    "tracing": "var(--series-5)",
    "validation": "var(--series-2)",
    "backups": "var(--series-3)",
    "waiting": "var(--series-4)",
    "repeating": "var(--series-1)",
    "noticing": "var(--series-6)",
    "starting": "var(--series-7)",
    "other": "var(--line)",
}
_HEIGHT_OF_BAR = 30


def goodput_chart(runs: Sequence[Run]) -> Chart | None:
    """Returns the chart, or `None` where no log tells of starts and ends.

    Args:
        runs: The runs; those that do not tell are left out.
    """
    bars = {run.name: run.goodput for run in runs if run.goodput}
    if not bars:
        return None
    parts = [
        part for part in PARTS if any(g.parts[part] for g in bars.values())
    ]
    return Chart(
        "goodput",
        "Goodput",
        _caption(bars),
        ["Run", *(part.capitalize() for part in parts), "Sum", "Goodput"],
        [_row(name, goodput, parts) for name, goodput in bars.items()],
        spec_of(
            _bars(bars, parts),
            height=max(80, _HEIGHT_OF_BAR * len(bars)),
            description=(
                f"A bar for each run: shares of {', '.join(parts)} of its time."
            ),
        ),
    )


def _caption(bars: dict[str, Goodput]) -> str:
    said = [
        f"{f'{name}: ' if len(bars) > 1 else ''}{goodput}"
        for name, goodput in bars.items()
    ]
    said.append("Updates that were lost and made again count once.")
    return " ".join(said).replace(" %", "\N{NO-BREAK SPACE}%")


def _row(name: str, goodput: Goodput, parts: Sequence[str]) -> list[str]:
    seconds = [duration(goodput.parts[part]) for part in parts]
    return [name, *seconds, duration(goodput.seconds), percent(goodput.share)]


def _bars(bars: dict[str, Goodput], parts: Sequence[str]) -> alt.Chart:
    rows = [
        {
            "run": name,
            "part": part,
            "place": place,
            "share": goodput.parts[part] / goodput.seconds,
            "time": duration(goodput.parts[part]),
        }
        for name, goodput in bars.items()
        for place, part in enumerate(parts)
        if goodput.parts[part]
    ]
    return (
        alt.Chart(alt.Data(values=rows))
        .mark_bar(stroke="var(--ground)", strokeWidth=1)
        .encode(
            x=alt.X(
                "share:Q",
                title="Share of the time",
                axis=alt.Axis(format="%"),
                scale=alt.Scale(domain=[0, 1]),
            ),
            y=alt.Y("run:N", title=None, sort=list(bars)),
            order="place:Q",
            color=color_of_parts(parts, _COLORS, bars),
            tooltip=[
                alt.Tooltip("run:N", title="of"),
                alt.Tooltip("part:N", title="part"),
                alt.Tooltip("share:Q", title="share", format=".1%"),
                alt.Tooltip("time:N", title="time"),
            ],
        )
    )
