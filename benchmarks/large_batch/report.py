"""Tables and a plot of what `study.py` has measured."""

import importlib.metadata
import os
import platform
import statistics

from matplotlib.figure import Figure

POINTS_SHOWN = 10  # below the base run; what collapsed would hide the rest
TITLES = {
    "digits": "digits: images read correctly",
    "text": "text: next characters foretold",
}


class Spread:
    """Median, lowest and highest of what the seeds of a setting gave."""

    def __init__(self, values):
        self.values = sorted(values)
        self.median = statistics.median(self.values)

    def text(self, style):
        low, middle, high = (
            format(value, style)
            for value in (self.values[0], self.median, self.values[-1])
        )
        return f"{middle} ({low}–{high})" if len(self.values) > 1 else middle


def spreads(outcomes, task, measure):
    """Returns the spread of a measure by rule and batch."""
    values = {}
    for run, outcome in outcomes.items():
        if run.task == task:
            batches = values.setdefault(run.rule, {})
            batches.setdefault(run.batch, []).append(outcome[measure])
    return {
        rule: {batch: Spread(some) for batch, some in sorted(batches.items())}
        for rule, batches in values.items()
    }


def print_tables(outcomes):
    print(f"\n{machine()}")
    for task in dict.fromkeys(run.task for run in outcomes):
        of_task = [run for run in outcomes if run.task == task]
        seeds = sorted({run.seed for run in of_task})
        epochs = of_task[0].epochs
        print(
            f"\n### {task}, {epochs} epochs, seeds {', '.join(map(str, seeds))}"
        )
        for measure, style in [("accuracy", ".1%"), ("loss", ".3f")]:
            table = spreads(outcomes, task, measure)
            batches = sorted({run.batch for run in of_task})
            print(f"\n| held-out {measure} at batch |", *cells(batches))
            print("| --- " * (len(batches) + 1) + "|")
            for rule, row in table.items():
                texts = [
                    row[batch].text(style) if batch in row else ""
                    for batch in batches
                ]
                print(f"| {rule} |", *cells(texts))
        print_stops(outcomes, task)


def print_stops(outcomes, task):
    """Says how far AdaScale went until it had done the steps of the base."""
    updates = spreads(outcomes, task, "updates")
    epochs = spreads(outcomes, task, "epochs")
    if "AdaScale" not in updates or "base" not in updates:
        return
    (base,) = updates["base"].values()
    print("\n| AdaScale at batch | epochs | updates | of the base run's |")
    print("| --- | --- | --- | --- |")
    for batch, spread in updates["AdaScale"].items():
        share = spread.median / base.median
        print(
            f"| {batch} | {epochs['AdaScale'][batch].text('g')} "
            f"| {spread.text('g')} | {share:.1%} of {base.median:,} |"
        )


def cells(values):
    return [f"{value} |" for value in values]


def machine():
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}"
        for name in ("tensorflow", "keras", "tfdp")
    )
    return (
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} "
        f"cores, Python {platform.python_version()}, {versions}"
    )


def plotted(outcomes, output):
    """Returns the path of a plot of accuracy over batch, by rule."""
    names = list(dict.fromkeys(run.task for run in outcomes))
    figure = Figure(figsize=(5.2 * len(names), 4.2), layout="constrained")
    for axes, task in zip(
        figure.subplots(1, len(names), squeeze=False)[0], names, strict=True
    ):
        table = spreads(outcomes, task, "accuracy")
        (base,) = table.pop("base").items()
        draw(axes, base, table)
        axes.set(
            title=TITLES[task],
            xlabel="samples behind an update",
            ylabel="held-out accuracy (%), median and range",
        )
    path = output / "large_batch.png"
    figure.savefig(path, dpi=110)
    return path


def draw(axes, base, table):
    batch, spread = base
    top = 100 * spread.median
    axes.axhline(top, color="black", linestyle=":", label=f"batch {batch}")
    ticks = {batch}
    for place, (rule, row) in enumerate(table.items()):
        points = {batch: spread, **row}
        ticks |= points.keys()
        # Beside each other, so that their ranges can be told apart.
        shift = 1 + 0.03 * (place - len(table) / 2)
        middle = [100 * point.median for point in points.values()]
        low = [100 * point.values[0] for point in points.values()]
        high = [100 * point.values[-1] for point in points.values()]
        axes.errorbar(
            [size * shift for size in points],
            middle,
            [
                [m - v for m, v in zip(middle, low, strict=True)],
                [v - m for m, v in zip(middle, high, strict=True)],
            ],
            fmt="o-",
            markersize=4,
            capsize=3,
            label=rule,
        )
    axes.set_xscale("log", base=2)
    axes.set_xticks(sorted(ticks), map(str, sorted(ticks)))
    bottom, highest = axes.get_ylim()
    axes.set_ylim(max(bottom, top - POINTS_SHOWN), min(highest, 100))
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", loc="lower left")
