"""A trace for Perfetto, in the JSON trace event format of Chrome."""

import functools
import json
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tfdp.report.goodput.attempts import LoggedAttempts
from tfdp.report.timeline.logged_steps import LoggedFit, Spans, logged_steps
from tfdp.report.timeline.parts import communications, parts_of_step

Event = dict[str, Any]
# A process of the trace is a worker of a run; before them is its launcher.
_PER_RUN = 100_000
_STATES, _REPLICAS = 0, 1


def write_trace(
    runs: Mapping[str, str | os.PathLike[str]], path: pathlib.Path
) -> dict[str, Any]:
    """Writes one trace of all workers of some runs.

    Args:
        runs: Their folders, by what to call them.
        path: The file.

    Returns:
        What the trace says of itself, as it is in its `otherData`.

    Raises:
        ValueError: If a run has no log of single steps, or a malformed one.
        OSError: If the file cannot be written.
    """
    events: list[Event] = []
    about: dict[str, Any] = {}
    for place, (name, folder) in enumerate(runs.items()):
        fits = logged_steps(folder)
        first = place * _PER_RUN
        prefix = f"{name}: " if len(runs) > 1 else ""
        events += _launcher(folder, first, prefix)
        for fit in fits:
            events += _fit(fit, first + 1)
        workers = max(fit.workers for fit in fits)
        about[name] = [_clocks(fits, worker) for worker in range(workers)]
        events += _names(events, first, prefix, about[name])
    begin = min((e["ts"] for e in events if "ts" in e), default=0)
    for event in events:
        if "ts" in event:
            event["ts"] = (event["ts"] - begin) / 1000
        if "dur" in event:
            event["dur"] /= 1000
    # Perfetto nests what begins at once by its place in the file.
    events.sort(key=lambda e: (e.get("ts", -1.0), -e.get("dur", 0.0)))
    other = {
        "begin": f"{begin / 1e9:.6f} s since 1970, by the clock of the chief",
        "clocks": about,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    trace = {"traceEvents": events, "displayTimeUnit": "ms", "otherData": other}
    path.write_text(json.dumps(trace, separators=(",", ":")), encoding="utf-8")
    return other


def _clocks(fits: Sequence[LoggedFit], worker: int) -> dict[str, Any]:
    known = [fit for fit in fits if worker < fit.workers]
    errors = [fit.error(worker) for fit in known]
    of_clocks = [o[worker] for fit in known for _, o, _ in fit.clocks]
    return {
        "worker": worker,
        "ahead_ms": round(1000 * of_clocks[-1], 3) if of_clocks else None,
        "error_ms": None
        if None in errors
        else round(1000 * max(e for e in errors if e is not None), 3),
    }


def _names(
    events: Sequence[Event], first: int, prefix: str, clocks: Sequence[Any]
) -> list[Event]:
    """Returns what processes and threads of a run are called."""
    threads = {(e["pid"], e["tid"]) for e in events if e["pid"] >= first}
    found = []
    for pid in sorted({pid for pid, _ in threads}):
        worker = pid - first - 1
        name = f"worker {worker}" if worker >= 0 else "launcher"
        args: dict[str, dict[str, Any]] = {
            "process_name": {"name": prefix + name},
            "process_sort_index": {"sort_index": pid},
        }
        if worker >= 0:
            error = clocks[worker]["error_ms"]
            known = "unknown" if error is None else f"{error:.3f} ms"
            args["process_labels"] = {"labels": f"clock aligned to {known}"}
        found += [
            {"ph": "M", "pid": pid, "tid": 0, "name": key, "args": value}
            for key, value in args.items()
        ]
    for pid, tid in sorted(threads):
        name = f"replica {tid - _REPLICAS}" if tid else "state"
        for key, value in {"name": name, "sort_index": tid}.items():
            found.append(
                {
                    "ph": "M",
                    "pid": pid,
                    "tid": tid,
                    "name": f"thread_{key}",
                    "args": {key: value},
                }
            )
    return found


def _slice(
    pid: int, tid: int, name: str, begin: int, end: int, **args: Any
) -> Event:
    event = {"ph": "X", "pid": pid, "tid": tid, "name": name, "cat": "tfdp"}
    event |= {"ts": begin, "dur": end - begin}
    return event | ({"args": args} if args else {})


def _launcher(
    folder: str | os.PathLike[str], pid: int, prefix: str
) -> list[Event]:
    """Returns starts of the workers, and what has ended them."""
    found: list[Event] = []
    try:
        attempts = LoggedAttempts(folder).attempts
    except ValueError:
        return found  # It needs none.
    for place, each in enumerate(attempts, start=1):
        begin, end = round(1e9 * each.started), round(1e9 * each.ended)
        args = {"workers": each.workers, "updates": each.made}
        found.append(_slice(pid, 0, f"start {place}", begin, end, **args))
        if each.lost is not None:
            lost = min(max(round(1e9 * each.lost), begin), end)
            found.append(_slice(pid, 0, "noticing", lost, end))
            found.append(
                {
                    **{"ph": "i", "s": "g", "pid": pid, "tid": 0},
                    **{"name": f"{prefix}worker lost", "ts": lost},
                }
            )
    return found


def _fit(fit: LoggedFit, first: int) -> list[Event]:
    found: list[Event] = []
    shared = communications(fit)
    for worker in range(fit.workers):
        pid = first + worker
        # In a track none begins before the last has ended.
        free: dict[int, int] = {}
        for spans in (each for each in fit.spans if each.worker == worker):
            moment = functools.partial(_moment, fit, spans)
            for state, begin, end in sorted(spans.states, key=lambda s: s[1:]):
                at = max(moment(begin), free.get(_STATES, 0)), moment(end)
                if at[1] > at[0]:
                    free[_STATES] = at[1]
                    found.append(_slice(pid, _STATES, state, *at))
            for step, replica, parts in _steps(spans, shared):
                number, begin, _, end, is_left_out = step
                tid = _REPLICAS + replica
                least = max(moment(begin), free.get(tid, 0))
                free[tid] = most = max(moment(end), least)
                args: dict[str, Any] = {"number": number}
                if is_left_out:
                    args["not in rates"] = True
                found.append(_slice(pid, tid, "step", least, most, **args))
                for name, *times in parts:
                    begin, end = (
                        min(max(moment(t), least), most) for t in times
                    )
                    found.append(_slice(pid, tid, name, begin, end))
    return found


def _moment(fit: LoggedFit, spans: Spans, microseconds: int) -> int:
    """Returns nanoseconds of the chief's clock."""
    time = spans.origin + microseconds / 1e6
    return round(1e9 * (time - fit.offset(spans.worker, time)))


def _steps(
    spans: Spans, shared: Mapping[Any, int]
) -> Iterator[tuple[Any, int, list[tuple[str, int, int]]]]:
    """Yields steps, a replica of each, and the parts it has there."""
    batches: dict[tuple[int, int], list[Any]] = {}
    for batch in spans.batches:
        batches.setdefault((batch[0], batch[-1]), []).append(batch)
    steps = {step[0]: step for step in spans.steps}
    for (number, replica), own in batches.items():
        if number in steps:
            step = steps[number]
            yield step, replica, list(parts_of_step(step, own, shared))
