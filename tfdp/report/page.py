"""The page of a report on training runs, and its charts as files."""

import base64
import hashlib
import importlib.metadata
import itertools
import os
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence

import jinja2
import markupsafe

from tfdp.report.asynchrony import worker_parts
from tfdp.report.charts.breakdown_chart import breakdown_chart
from tfdp.report.charts.chart import Chart, script
from tfdp.report.charts.colors import series, style
from tfdp.report.charts.goodput_chart import goodput_chart
from tfdp.report.charts.line_chart import line_chart
from tfdp.report.charts.scaling_chart import scaling_chart
from tfdp.report.charts.staleness_chart import staleness_charts
from tfdp.report.comparison import scalings, unit_of
from tfdp.report.facts import facts, results, words
from tfdp.report.learning_figures import learning_figures
from tfdp.report.run import Run
from tfdp.report.speed_figures import speed_figures
from tfdp.report.words import milliseconds, percent, rate

PAGE = "report.html"
_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("tfdp.report"), autoescape=True
)

Charts = dict[str, Chart]


def write_report(
    runs: Sequence[Run], folder: str | os.PathLike[str]
) -> list[pathlib.Path]:
    """Writes the page of some runs, and a PNG of each of its charts.

    The page holds all that it needs, and asks the network for nothing.

    Args:
        runs: The runs, of different names.
        folder: Where to write to; made where it is missing.

    Returns:
        The paths of the files, first the page's.

    Raises:
        OSError: If a file cannot be written.
    """
    parts = _parts(runs)
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / PAGE]
    paths[0].write_text(page(runs, parts), encoding="utf-8")
    for charts in parts.values():
        for name, chart in charts.items():
            paths.append(folder / f"{name}.png")
            paths[-1].write_bytes(chart.png())
    return paths


def summary(runs: Sequence[Run]) -> tuple[list[str], list[list[str]]]:
    """Returns the head and the rows of a table of the runs."""
    scaling = {s.run.name: s for s in scalings(runs)}
    rates = f"{unit_of(runs)}/s"
    head = ["Run", "Replicas", "Updates", rates, "Per update"]
    rows = [
        [
            run.name,
            f"{run.replicas:,}" if run.replicas else "–",
            f"{run.updates:,}",
            rate(run.samples_per_second),
            milliseconds(run.update_milliseconds),
        ]
        for run in runs
    ]
    if scaling:
        head += ["Speed-up", "Efficiency"]
        for row in rows:
            of_run = scaling.get(row[0])
            row.append(f"{rate(of_run.speedup)} ×" if of_run else "–")
            row.append(percent(of_run.efficiency if of_run else None))
    return head, rows


def page(runs: Sequence[Run], parts: Mapping[str, Charts]) -> str:
    """Returns the page.

    Args:
        runs: The runs, of different names.
        parts: By the heading of a part, the names and the charts in it.
    """
    ids = itertools.count()
    shown = {
        part: [(f"chart-{next(ids)}", *item) for item in charts.items()]
        for part, charts in parts.items()
    }
    head, rows = summary(runs)
    program = script()
    return _TEMPLATES.get_template("report.html").render(
        title=runs[0].name if len(runs) == 1 else "Training runs",
        colors=style(),
        runs=[
            {
                "name": run.name,
                "color": series(place),
                "words": _with_code(words(run)),
                "results": results(run),
                "facts": facts(run),
            }
            for place, run in enumerate(runs)
        ],
        head=head,
        rows=rows,
        parts=shown,
        specs={
            id_: chart.spec for of in shown.values() for id_, _, chart in of
        },
        script=markupsafe.Markup(program),
        script_hash=_hash(program),
        version=importlib.metadata.version("tfdp"),
    )


def _parts(runs: Sequence[Run]) -> dict[str, Charts]:
    names = [run.name for run in runs]
    learning = [line_chart(figure, names) for figure in learning_figures(runs)]
    speed = [line_chart(figure, names) for figure in speed_figures(runs)]
    means = [scaling_chart(scalings(runs), names), breakdown_chart(runs)]
    parts = {
        "Time": _named([chart] if (chart := goodput_chart(runs)) else []),
        "Speed": _named([chart for chart in means if chart] + speed),
        "Asynchrony": _named(staleness_charts(worker_parts(runs))),
        "Learning": _named(learning),
    }
    return {part: charts for part, charts in parts.items() if charts}


def _named(charts: Iterable[Chart]) -> Charts:
    """Names of files; a metric may have any name, and two nearly the same."""
    found: Charts = {}
    for chart in charts:
        name = slug = re.sub(r"[^A-Za-z0-9-]+", "_", chart.key).strip("_")[:60]
        for number in itertools.count(2):
            if name.lower() not in map(str.lower, found):
                break
            name = f"{slug}_{number}"
        found[name] = chart
    return found


def _with_code(text: str) -> markupsafe.Markup:
    escaped = str(markupsafe.escape(text))
    return markupsafe.Markup(re.sub("`([^`]+)`", r"<code>\1</code>", escaped))


def _hash(program: str) -> str:
    digest = hashlib.sha256(program.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
