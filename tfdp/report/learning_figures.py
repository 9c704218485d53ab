"""What a report draws of what a model learned, and with which settings."""

from collections.abc import Iterator, Sequence

from tfdp.report.curve import Curve
from tfdp.report.figure import Figure, drawn, logged
from tfdp.report.log_lines import Line, number
from tfdp.report.run import Run
from tfdp.report.words import shortened, title

# Numbers of lines that are no metrics, by their names and what these end with.
_NO_METRICS = {"time", "epoch", "update", "updates"}
_NO_METRICS |= {"gradient_noise", "gradient_signal"}
_NO_METRICS |= {"staleness_mean", "staleness_max", "updates_of_all_workers"}
_NO_METRICS_END = (
    *("seconds", "_seconds_p50", "_seconds_p95", "_per_second"),
    *("_bytes", "_fraction", "_skew"),
)
# Letters that a heading and an axis have room for.
_LONGEST_HEADING = 60
_LONGEST_AXIS = 30
_RATE = "learning_rate"
_SETTINGS = {
    "loss_scale": ("Factor", "What the loss is multiplied by in float16."),
    "skipped_updates": (
        "Updates",
        "Updates left out so far, because of an overflow in float16.",
    ),
    "adascale_gain": (
        "Gain",
        "How many updates of the small batch an update of AdaScale is worth.",
    ),
    "scale_invariant_steps": (
        "Updates",
        "Updates of the small batch that those of AdaScale are worth so far.",
    ),
    "noise_scale": (
        "Samples",
        "Batches well above it learn little more from each update.",
    ),
}


def learning_figures(runs: Sequence[Run]) -> list[Figure]:
    """Returns the figures of loss, metrics, rates and scales that exist."""
    return drawn([*_metrics(runs), *_settings(runs)])


def _metrics(runs: Sequence[Run]) -> Iterator[Figure]:
    names = {
        key.removeprefix("val_"): None
        for run in runs
        for line in [*run.lines("update"), *run.lines("epoch")]
        for key in line
        if _is_metric(key) and number(line, key) is not None
    }
    for name in sorted(names, key=lambda name: name != "loss"):
        curves = []
        for run in runs:
            epochs = run.lines("epoch")
            curves += [
                logged(run, "training", run.lines("update"), name),
                logged(run, "training, whole epoch", epochs, name, "dotted"),
                logged(run, "validation", epochs, f"val_{name}", "dashed"),
            ]
        log = name.endswith("loss") and _is_wide(curves)
        heading = shortened(title(name), _LONGEST_HEADING)
        caption = "Within an epoch, training is the mean over the epoch so far."
        if heading != title(name):
            caption += f" The metric is {name}."
        yield Figure(
            f"metric_{name}",
            heading,
            shortened(title(name), _LONGEST_AXIS)
            + (", logarithmic" if log else ""),
            caption,
            curves,
            log,
        )


def _is_metric(key: str) -> bool:
    return not (
        key in _NO_METRICS
        or key in _SETTINGS
        or key.startswith(_RATE)
        or key.endswith(_NO_METRICS_END)
    )


def _settings(runs: Sequence[Run]) -> Iterator[Figure]:
    rates = {
        key: None
        for run in runs
        for line in _lines(run, _RATE)
        for key in line
        if key.startswith(_RATE)
    }
    yield Figure(
        _RATE,
        title(_RATE),
        title(_RATE),
        "The rate that updates were made with.",
        [
            logged(run, title(key).lower(), _lines(run, _RATE), key, style)
            for run in runs
            for key, style in zip(rates, _styles(len(rates)), strict=True)
        ],
    )
    for key, (axis, caption) in _SETTINGS.items():
        curves = [
            logged(run, title(key).lower(), _lines(run, key), key)
            for run in runs
        ]
        log = key == "loss_scale" and _is_wide(curves)
        axis += ", logarithmic" if log else ""
        yield Figure(key, title(key), axis, caption, curves, log)


def _is_wide(curves: Sequence[Curve]) -> bool:
    values = [value for curve in curves for value in curve.values]
    return bool(values) and 0 < 30 * min(values) < max(values)


def _lines(run: Run, key: str) -> list[Line]:
    """Lines of updates, or of epochs where only these have the number."""
    updates = run.lines("update")
    known = any(name.startswith(key) for line in updates for name in line)
    return updates if known else run.lines("epoch")


def _styles(count: int) -> list[str]:
    return (["solid", "dashed", "dotted"] * count)[:count]
