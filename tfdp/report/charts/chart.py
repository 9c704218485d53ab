"""A chart of a report, for its page and as a file of its own."""

import copy
import dataclasses
import functools
import importlib.resources
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import altair as alt
import vl_convert

from tfdp.report.charts.colors import on_light

# Of Vega-Lite, such as "6.1".
_VERSION = ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
_WIDTH_OF_FILE = 720
_WIDTH_OF_LETTER = 7
_WIDTH_OF_SYMBOL = 36
_LABEL_LIMIT = 170
_CONFIG: dict[str, Any] = {
    "background": None,
    "font": "system-ui, 'Liberation Sans', Arial, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "domainColor": "var(--line)",
        "gridColor": "var(--grid)",
        "labelColor": "var(--quiet)",
        "labelFontSize": 12,
        "labelLimit": 180,
        "tickColor": "var(--line)",
        "titleColor": "var(--quiet)",
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "titlePadding": 8,
    },
    "legend": {
        "labelColor": "var(--text)",
        "labelFontSize": 12,
        "labelLimit": _LABEL_LIMIT,
        "layout": {"top": {"anchor": "start", "direction": "vertical"}},
        "offset": 8,
        "orient": "top",
        "symbolStrokeWidth": 2.5,
        "title": None,
    },
    "title": {
        "anchor": "start",
        "color": "var(--text)",
        "fontSize": 16,
        "offset": 12,
    },
}


@dataclasses.dataclass(frozen=True)
class Chart:
    """A chart, and its figures in a table.

    Attributes:
        key: Its name in files and links.
        title: Its heading.
        caption: What is drawn, in a sentence or two.
        head: Names of the table's columns.
        rows: The table's cells.
        spec: The chart in Vega-Lite, as wide as what holds it, with colours
            that are CSS variables.
    """

    key: str
    title: str
    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    spec: dict[str, Any]

    def png(self) -> bytes:
        """Returns the chart as an image on light ground."""
        spec = copy.deepcopy(self.spec)
        spec |= {"width": _WIDTH_OF_FILE, "title": self.title, "padding": 16}
        spec["config"]["background"] = "var(--ground)"
        return vl_convert.vegalite_to_png(
            on_light(json.dumps(spec)), vl_version=_VERSION, scale=2
        )


def spec_of(
    chart: alt.Chart | alt.LayerChart | alt.FacetChart,
    *,
    height: int,
    description: str,
) -> dict[str, Any]:
    """Returns a chart in the style of a report, in Vega-Lite.

    Args:
        chart: The chart.
        height: Height of its axes in pixels.
        description: What is drawn, for those who do not see it.
    """
    spec = chart.properties(
        width="container", height=height, description=description
    ).to_dict(validate=False)
    room = {"name": "room", "value": _WIDTH_OF_FILE}
    return spec | {
        "autosize": {"type": "fit-x", "contains": "padding"},
        "config": _CONFIG,
        "params": [*spec.get("params", ()), room],
    }


def legend(
    labels: Iterable[str], symbol: str, *, beside: int = 60, **others: Any
) -> alt.Legend:
    """Returns a legend with as many columns as a chart has room for.

    Args:
        labels: What it is going to say.
        symbol: The shape of its symbols.
        beside: Width of what stands on the left of it, in pixels.
        others: What else Altair can be told of it.
    """
    width = _WIDTH_OF_SYMBOL + width_of(labels)
    columns = alt.expr(f"max(1, floor((room - {beside}) / {width}))")
    return alt.Legend(columns=columns, symbolType=symbol, **others)


def color_of_parts(
    parts: Sequence[str], colors: Mapping[str, str], bars: Iterable[str]
) -> alt.Color:
    """Returns how the parts of bars are told apart, and in which order.

    Args:
        parts: What a bar is made of.
        colors: The color of each.
        bars: What the bars are called.
    """
    return alt.Color(
        "part:N",
        legend=legend(
            parts, "square", beside=width_of(bars), symbolStrokeWidth=0
        ),
        scale=alt.Scale(domain=parts, range=[colors[part] for part in parts]),
    )


def width_of(labels: Iterable[str]) -> int:
    """Returns about how wide labels are, in pixels."""
    longest = max(map(len, labels), default=0)
    return min(_LABEL_LIMIT, _WIDTH_OF_LETTER * longest)


@functools.cache
def script() -> str:
    """Returns the program that draws the charts of a page."""
    draw = importlib.resources.files("tfdp.report") / "templates" / "report.js"
    return vl_convert.javascript_bundle(
        draw.read_text(encoding="utf-8"), vl_version=_VERSION
    )
