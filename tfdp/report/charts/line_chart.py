"""The chart of curves over updates."""

import math
from collections.abc import Sequence
from typing import Any

import altair as alt

from tfdp.report.charts.chart import Chart, legend, spec_of
from tfdp.report.charts.colors import series
from tfdp.report.curve import Curve
from tfdp.report.figure import MOST_POINTS, Figure
from tfdp.report.words import figure as shown

_HEIGHT = 230
_FEW_POINTS = 30  # so few are marked by dots
_DASHES: dict[str, Sequence[float]] = {
    "solid": [1, 0],
    "dashed": [6, 3],
    "dotted": [1.5, 2.5],
}
_PALE = 0.15
_WIDTH = 1.75


def line_chart(figure: Figure, runs: Sequence[str]) -> Chart:
    """Returns the chart of a figure.

    Args:
        figure: The figure.
        runs: Names of all runs of the report. Where there are several, a
            curve has the colour of its run; else each has its own.
    """
    caption = figure.caption
    if figure.is_thinned:
        caption += f" Longer curves are averaged to {MOST_POINTS} points each."
    head, rows = _table(figure.curves, several=len(runs) > 1)
    return Chart(
        figure.key,
        figure.title,
        caption,
        head,
        rows,
        _Lines(figure, runs).spec(),
    )


def _table(
    curves: Sequence[Curve], *, several: bool
) -> tuple[list[str], list[list[str]]]:
    head = ["Curve", "First", "Last", "Lowest", "Highest"]
    rows = []
    for curve in curves:
        values = curve.values
        ends = (values[0], values[-1], min(values), max(values))
        rows.append([curve.label(several), *map(shown, ends)])
    return head, rows


class _Lines:
    def __init__(self, figure: Figure, runs: Sequence[str]) -> None:
        self.figure = figure
        self.several = len(runs) > 1
        self.curves = {f"s{i}": c for i, c in enumerate(figure.thinned)}
        groups = [self.group(curve) for curve in self.curves.values()]
        places = {
            group: place
            for place, group in enumerate(
                runs if self.several else dict.fromkeys(groups)
            )
        }
        self.colors = {
            group: series(place)
            for group, place in places.items()
            if group in groups
        }

    def group(self, curve: Curve) -> str:
        """What shares a colour."""
        return curve.run if self.several else curve.name

    def spec(self) -> dict[str, Any]:
        points = alt.Chart(alt.Data(values=self._points())).encode(
            x=alt.X(
                "u:Q", title="Updates", scale=alt.Scale(zero=self._is_whole())
            ).axis(format=",d", tickCount=5)
        )
        names = ", ".join(self.colors)
        return spec_of(
            alt.layer(*self._marks(points), self._ruler(points)),
            height=_HEIGHT,
            description=f"{self.figure.title} over updates, of {names}.",
        )

    def _points(self) -> list[dict[str, Any]]:
        return [
            {"s": key, "u": point.update, "v": _rounded(point.value)}
            for key, curve in self.curves.items()
            for point in curve.points
        ]

    def _is_whole(self) -> bool:
        """Whether most updates are drawn, counted from zero."""
        updates = [p.update for c in self.figure.curves for p in c.points]
        return 2 * min(updates) <= max(updates)

    def _is_constant(self) -> bool:
        values = {value for c in self.figure.curves for value in c.values}
        return len(values) == 1

    def _about_curves(self) -> list[dict[str, Any]]:
        return [
            {
                "s": key,
                "group": self.group(curve),
                "name": curve.name,
                "width": self._width(curve),
                "few": len(curve.points) <= _FEW_POINTS,
            }
            for key, curve in self.curves.items()
        ]

    def _marks(self, points: alt.Chart) -> list[alt.Chart]:
        pick = alt.selection_point("pick", fields=["group"], bind="legend")
        about = alt.LookupData(
            alt.Data(values=self._about_curves()),
            "s",
            ["group", "name", "width", "few"],
        )
        curves = points.transform_lookup("s", about).encode(
            y=self._y(),
            color=self._color(),
            detail="s:N",
            opacity=alt.when(pick)
            .then(alt.value(1))
            .otherwise(alt.value(_PALE)),
        )
        lines = curves.mark_line(aria=False, strokeJoin="round").encode(
            strokeDash=self._dash(),
            strokeWidth=alt.StrokeWidth("width:Q", legend=None, scale=None),
        )
        marks = [lines.add_params(pick)]
        if any(curve["few"] for curve in self._about_curves()):
            dots = curves.mark_point(aria=False, filled=True, size=24)
            marks.append(dots.transform_filter("datum.few"))
        return marks

    def _y(self) -> alt.Y:
        title = self.figure.axis
        if not self.figure.log:
            scale = alt.Scale(zero=self.figure.zero or self._is_constant())
            return alt.Y("v:Q", title=title, scale=scale).axis(tickCount=5)
        values = [v for curve in self.curves.values() for v in curve.values]
        powers = range(
            math.floor(math.log10(min(values))),
            math.ceil(math.log10(max(values))),
        )
        steps = (1, 2, 5) if len(powers) < 4 else (1,)
        ticks = [step * 10.0**power for power in powers for step in steps]
        scale = alt.Scale(type="log", nice=False)
        return alt.Y("v:Q", title=title, scale=scale).axis(values=ticks)

    def _color(self) -> alt.Color:
        told_apart = self.several or len(self.colors) > 1
        return alt.Color(
            "group:N",
            legend=legend(self.colors, "stroke") if told_apart else None,
            scale=alt.Scale(
                domain=list(self.colors), range=list(self.colors.values())
            ),
        )

    def _width(self, curve: Curve) -> float:
        """Where curves coincide, the later are thinner, and hide none."""
        if not (self.several and self.figure.has_equal_curves):
            return _WIDTH
        later = len(self.colors) - 1 - list(self.colors).index(curve.run)
        return _WIDTH + min(1.5, 5 / len(self.colors)) * later

    def _dash(self) -> alt.StrokeDash:
        styles = {c.name: c.style for c in self.curves.values()}
        differ = len(set(styles.values())) > 1
        return alt.StrokeDash(
            "name:N",
            legend=legend(styles, "stroke", symbolStrokeColor="var(--text)")
            if self.several and differ
            else None,
            scale=alt.Scale(
                domain=list(styles),
                range=[_DASHES[style] for style in styles.values()],
            ),
        )

    def _ruler(self, points: alt.Chart) -> alt.Chart:
        """Where the pointer is, with the numbers of all curves there."""
        hover = alt.selection_point(
            "hover",
            on="pointerover",
            clear="pointerout",
            nearest=True,
            fields=["u"],
            empty=False,
        )
        numbers = [
            alt.Tooltip(
                f"{key}:Q", title=curve.label(self.several), format=",.4~r"
            )
            for key, curve in self.curves.items()
        ]
        return (
            points.transform_pivot("s", value="v", groupby=["u"])
            .mark_rule(aria=False, color="var(--quiet)")
            .encode(
                opacity=alt.when(hover)
                .then(alt.value(0.6))
                .otherwise(alt.value(0)),
                tooltip=[
                    alt.Tooltip("u:Q", title="update", format=",d"),
                    *numbers,
                ],
            )
            .add_params(hover)
        )


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.5g}")
