"""The chart of speed over the number of replicas."""

from collections.abc import Sequence

import altair as alt

from tfdp.report.charts.chart import Chart, legend, spec_of
from tfdp.report.charts.colors import series
from tfdp.report.comparison import Scaling
from tfdp.report.words import percent, rate

_HEIGHT = 230


def scaling_chart(
    scalings: Sequence[Scaling], runs: Sequence[str]
) -> Chart | None:
    """Returns the chart, or `None` where all runs have as many replicas.

    Args:
        scalings: How the runs scale, fewest replicas first.
        runs: Names of all runs of the report, in the order of their colours.
    """
    replicas = sorted({scaling.replicas for scaling in scalings})
    if len(replicas) < 2:
        return None
    base = scalings[0]
    return Chart(
        "scaling",
        "Scaling",
        f"Speed-up over {base.run.name}. The dashed line is the ideal: twice "
        "the replicas, twice the speed.",
        ["Run", "Replicas", "Samples/s", "Speed-up", "Efficiency"],
        [
            [
                s.run.name,
                f"{s.replicas:,}",
                rate(s.samples_per_second),
                f"{rate(s.speedup)} ×",
                percent(s.efficiency),
            ]
            for s in scalings
        ],
        spec_of(
            _layers(scalings, replicas, runs),
            height=_HEIGHT,
            description="Speed-up over the number of replicas, and the ideal.",
        ),
    )


def _layers(
    scalings: Sequence[Scaling], replicas: Sequence[int], runs: Sequence[str]
) -> alt.LayerChart | alt.FacetChart:
    ideal = [{"replicas": n, "speedup": n / replicas[0]} for n in replicas]
    rows = [
        {
            "run": s.run.name,
            "replicas": s.replicas,
            "speedup": s.speedup,
            "efficiency": s.efficiency,
        }
        for s in scalings
    ]
    names = [name for name in runs if name in {row["run"] for row in rows}]
    axes = {
        "x": alt.X(
            "replicas:Q", title="Replicas", scale=alt.Scale(padding=20)
        ).axis(values=list(replicas), format=",d", grid=False),
        "y": alt.Y("speedup:Q", title="Speed-up").axis(tickCount=5),
    }
    line = alt.Chart(alt.Data(values=ideal)).mark_line(
        color="var(--quiet)", strokeDash=[6, 3], strokeWidth=1.5
    )
    dots = alt.Chart(alt.Data(values=rows)).mark_point(filled=True, size=110)
    return alt.layer(
        line.encode(**axes),
        dots.encode(
            **axes,
            opacity=alt.value(1),
            color=alt.Color(
                "run:N",
                legend=legend(names, "circle"),
                scale=alt.Scale(
                    domain=names,
                    range=[series(runs.index(name)) for name in names],
                ),
            ),
            tooltip=[
                alt.Tooltip("run:N", title="run"),
                alt.Tooltip("replicas:Q", title="replicas", format=",d"),
                alt.Tooltip("speedup:Q", title="speed-up", format=",.3~r"),
                alt.Tooltip("efficiency:Q", title="efficiency", format=".0%"),
            ],
        ),
    )
