"""Checks a trace by what the JSON trace event format asks for.

https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
"""

import json

import jsonschema

_NUMBER, _TEXT = {"type": "number", "minimum": 0}, {"type": "string"}
_COUNT = {"type": "integer", "minimum": 0}
_PLACE = {"pid": _COUNT, "tid": _COUNT, "name": {**_TEXT, "minLength": 1}}


def _event(phase, required=(), **properties):
    own = {"ph": {"const": phase}, **_PLACE, "args": {"type": "object"}}
    return {
        "type": "object",
        "properties": {**own, **properties},
        "required": ["ph", *_PLACE, *required],
        "additionalProperties": False,
    }


SCHEMA = {
    "type": "object",
    "properties": {
        "traceEvents": {
            "type": "array",
            "items": {
                "oneOf": [
                    _event(
                        "X", ["ts", "dur"], ts=_NUMBER, dur=_NUMBER, cat=_TEXT
                    ),
                    _event(
                        "i",
                        ["ts", "s"],
                        ts=_NUMBER,
                        s={"enum": ["g", "p", "t"]},
                    ),
                    _event("M", ["args"]),
                ]
            },
        },
        "displayTimeUnit": {"enum": ["ms", "ns"]},
        "otherData": {"type": "object"},
    },
    "required": ["traceEvents"],
    "additionalProperties": False,
}
METADATA = {
    "process_name": "name",
    "process_labels": "labels",
    "process_sort_index": "sort_index",
    "thread_name": "name",
    "thread_sort_index": "sort_index",
}


def read(path):
    """Returns a trace that is one: of that form, named, and well nested."""
    trace = json.loads(path.read_text())
    jsonschema.validate(trace, SCHEMA)
    events = trace["traceEvents"]
    named = set()
    for event in events:
        if event["ph"] == "M":
            assert list(event["args"]) == [METADATA[event["name"]]]
            named.add((event["name"], event["pid"], event["tid"]))
    tracks = {}
    for event in events:
        if event["ph"] == "X":
            tracks.setdefault((event["pid"], event["tid"]), []).append(event)
    for (pid, tid), slices in tracks.items():
        assert {("process_name", pid, 0), ("thread_name", pid, tid)} <= named
        _check_nesting(slices)
    return trace


def _check_nesting(slices):
    """Slices of a track lie in each other or apart, and begin in order."""
    under_way = []
    before = 0
    for event in slices:
        begin = round(1000 * event["ts"])
        end = begin + round(1000 * event["dur"])
        assert begin >= before
        before = begin
        while under_way and under_way[-1] <= begin:
            under_way.pop()
        assert not under_way or end <= under_way[-1], event
        under_way.append(end)


def slices(trace, pid, tid):
    """Names of a track's slices, with begin and duration in microseconds."""
    return [
        (event["name"], event["ts"], event["dur"])
        for event in trace["traceEvents"]
        if event["ph"] == "X" and (event["pid"], event["tid"]) == (pid, tid)
    ]
