"""What a report says of a run in words and single numbers."""

import collections
import datetime

from tfdp.report.log_lines import Line, number
from tfdp.report.run import Run
from tfdp.report.words import (
    duration,
    figure,
    milliseconds,
    percent,
    rate,
    title,
)

_PACKAGES = {"tfdp": "tfdp", "tensorflow": "TensorFlow", "keras": "Keras"}
_PACKAGES |= {"python": "Python"}
_RESULTS = ("val_loss", "val_accuracy", "loss", "accuracy")
_MOST_RESULTS = 2

Facts = list[tuple[str, str]]


def words(run: Run) -> str:
    """Returns what limits a run, or why that is not known."""
    if run.end is None:
        return "The run has not ended: it was killed, or still goes on."
    said = str(run.end.get("words") or "Nothing was measured that tells.")
    room = str(run.end.get("room_words") or "")
    said = _capital(said)
    if room and room != run.end.get("words"):
        said += f" {_capital(room)}"
    return said.replace(" %", "\N{NO-BREAK SPACE}%")


def results(run: Run) -> Facts:
    """Returns the numbers of a run that come first."""
    found = [
        (f"{run.unit} per second{_whose(run)}", rate(run.samples_per_second)),
        ("per update", milliseconds(run.update_milliseconds)),
        ("updates", f"{run.updates:,}"),
        ("from begin to end", duration(run.duration)),
    ]
    if run.goodput:
        found.append(("goodput", percent(run.goodput.share)))
    last: Line = (run.lines("epoch") or run.lines("update") or [{}])[-1]
    known = [key for key in _RESULTS if number(last, key) is not None]
    for key in known[:_MOST_RESULTS]:
        name = title(key.replace("val_", "validation_")).lower()
        found.append((name, figure(number(last, key))))
    return found


def facts(run: Run) -> Facts:
    """Returns what a run was made of, as far as its log says."""
    line = run.begin
    steps = number(line, "accumulation_steps")
    began = datetime.datetime.fromtimestamp(
        run.fits[0][0]["time"], datetime.UTC
    )
    found = [
        ("Strategy", line.get("strategy")),
        ("Workers", "" if _is_asynchronous(run) else _count(line, "workers")),
        ("Asynchronous", _asynchronous(line)),
        ("Replicas", _count(line, "replicas")),
        ("Devices", _devices(line)),
        ("Accumulation", steps and f"{steps:,} step{'s' * (steps > 1)}"),
        ("Optimizer", line.get("optimizer")),
        ("Parameters", _count(line, "parameters")),
        ("Machine", line.get("machine")),
        ("CPU kernels", line.get("kernels")),
        ("Gradients by", line.get("communication")),
        ("Versions", _versions(line.get("versions") or {})),
        ("Began", f"{began:%Y-%m-%d %H:%M} UTC"),
        ("Resumed", _resumptions(run)),
    ]
    return [(name, str(value)) for name, value in found if value]


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def _is_asynchronous(run: Run) -> bool:
    return bool(run.begin.get("asynchronous"))


def _whose(run: Run) -> str:
    return ", of the chief" if _is_asynchronous(run) else ""


def _asynchronous(line: Line) -> str:
    found = line.get("asynchronous") or {}
    known = [
        number(found, "workers") and f"{number(found, 'workers'):,} workers",
        f"max_staleness={number(found, 'max_staleness'):,}"
        if number(found, "max_staleness") is not None
        else "",
    ]
    return ", ".join(str(each) for each in known if each)


def _count(line: Line, key: str) -> str | None:
    value = number(line, key)
    return None if value is None else f"{value:,}"


def _devices(line: Line) -> str:
    counts = collections.Counter(map(str, line.get("devices") or ()))
    devices = ", ".join(
        device if count == 1 else f"{count} × {device}"
        for device, count in counts.items()
    )
    several = (number(line, "workers") or 1) > 1
    return f"{devices} on each worker" if devices and several else devices


def _versions(versions: Line) -> str:
    return ", ".join(
        f"{name} {versions[package]}"
        for package, name in _PACKAGES.items()
        if versions.get(package)
    )


def _resumptions(run: Run) -> str:
    begins = [f"{fit[0]['update']:,}" for fit in run.fits[1:]]
    return f"at update {', '.join(begins)}" if begins else ""
