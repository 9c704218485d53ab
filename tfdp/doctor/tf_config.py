"""`TF_CONFIG` as text: what is meant by one that is not quite right."""

import ipaddress
import json
import re
from typing import Any

from tfdp.audits import Finding, Findings
from tfdp.cluster.tf_config import BYTE_ORDER_MARK
from tfdp.machine import ports

_BLANKS = re.compile(r"\s*")
_QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’"}
_WORDS = {"true": True, "false": False, "null": None, "none": None}
_MEANT = {"master": "chief", "workers": "worker"}


def mended(text: str) -> tuple[str, Findings]:
    """Guesses what a `TF_CONFIG` was meant to be.

    Understood are the quotes of Python and of word processors, missing or
    doubled ones, surplus commas, missing or surplus brackets at the end, host
    and port as two values, an address with a scheme, a slash, blanks or what is
    not seen, one text for several addresses, addresses by index, an index as
    text, `master` for `chief`, and one port given to several processes of a
    host.

    Args:
        text: Text of a `TF_CONFIG`.

    Returns:
        The JSON it was meant to be, or `text` where nothing is to mend or
        cannot be guessed; and what was mended. A finding is a warning where
        TensorFlow takes the text all the same.

    Example:

    >>> json_text, findings = mended("{'cluster': {'worker': ['http://a:1/']}}")
    >>> print(json_text)
    {"cluster": {"worker": ["a:1"]}}
    >>> print(findings)  # doctest: +ELLIPSIS
    error: TF_CONFIG must be JSON. Received: ...
    error: An address must be `host:port`. Received: 'http://a:1/'. Use 'a:1'.
    """
    findings = Findings()
    bare = text.strip().removeprefix(BYTE_ORDER_MARK)
    try:
        config = json.loads(text)
    except (ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        try:
            config = _Reader(bare).config()
        # Brackets in brackets in brackets are no cluster.
        except (ValueError, RecursionError):
            return text, findings
        findings.append(
            Finding(
                "TF_CONFIG must be JSON.",
                _shown(text),
                "error",
                "Put every name and address in double quotes, and the whole, "
                "in a shell, in single ones.",
            )
        )
    if isinstance(config.get("cluster"), dict):
        config["cluster"] = _mended_cluster(config["cluster"], findings)
    if isinstance(config.get("task"), dict):
        config["task"] = _mended_task(config["task"], findings)
    return (json.dumps(config) if findings else text), findings


def _shown(text: str) -> str:
    # A mark is there to be seen.
    text = text.replace(BYTE_ORDER_MARK, "\\ufeff")
    return text if len(text) <= 200 else text[:200] + "…"


def _mended_cluster(
    cluster: dict[str, Any], findings: Findings
) -> dict[str, list[Any]]:
    jobs = {}
    for name, given in cluster.items():
        job = _meant(name, cluster, findings)
        addresses = _listed(given, job, findings)
        jobs[job] = [_mended_address(a, findings) for a in addresses]
    named = {_place(a) for addresses in jobs.values() for a in addresses}
    taken: set[str] = set()
    searched: dict[str, int] = {}
    for addresses in jobs.values():
        for i, address in enumerate(addresses):
            if _place(address) in taken:
                addresses[i] = _moved(address, named, searched, findings)
                named.add(_place(addresses[i]))
            taken.add(_place(addresses[i]))
    return jobs


def _mended_task(task: dict[str, Any], findings: Findings) -> dict[str, Any]:
    task = dict(task)
    if isinstance(task.get("type"), str):
        task["type"] = _meant(task["type"], (), findings)
    index = task.get("index")
    if isinstance(index, str) and ports.is_whole(index.strip()):
        task["index"] = int(index)
        findings.append(
            Finding(
                "The task's index should be a number.",
                f"index={index!r}",
                "warning",
                f"Use {int(index)}, without quotes.",
            )
        )
    return task


def _meant(name: str, others: Any, findings: Findings) -> str:
    meant = _MEANT.get(name.strip().lower(), name.strip().lower())
    if meant == name or meant in others:
        return name
    findings.append(
        Finding(
            "A job is called chief, worker or evaluator.",
            repr(name),
            "error",
            f"Use {meant!r}.",
        )
    )
    return meant


def _listed(given: Any, job: str, findings: Findings) -> list[Any]:
    addresses = given
    if isinstance(given, str):
        addresses = [part for part in re.split(r"[,;\s]+", given) if part]
    elif isinstance(given, dict) and all(map(ports.is_whole, given)):
        addresses = [given[k] for k in sorted(given, key=int)]
    elif isinstance(given, list):
        addresses = _joined(given)
    else:
        return [given]
    if addresses != given:
        findings.append(
            Finding(
                "A job must be a list of addresses `host:port`.",
                f"{job}={given!r}",
                "error",
                f"Use {json.dumps(addresses)}.",
            )
        )
    return addresses


def _joined(values: list[Any]) -> list[Any]:
    """Makes `["a", 1, "b:2"]` and `[["a", 1], "b:2"]` into `["a:1", "b:2"]`."""
    joined: list[Any] = []
    for value in values:
        is_port = isinstance(value, int) or (
            isinstance(value, str) and ports.is_whole(value)
        )
        if isinstance(value, list) and len(value) == 2:
            joined.append(f"{value[0]}:{value[1]}")
        elif is_port and joined and not re.search(r":[0-9]+$", str(joined[-1])):
            joined[-1] = f"{str(joined[-1]).removesuffix(':')}:{value}"
        else:
            joined.append(value)
    return joined


def _mended_address(address: Any, findings: Findings) -> Any:
    if not isinstance(address, str):
        return address
    bare = "".join(letter for letter in address if letter.isprintable())
    bare = re.sub(r"^[\w+]+://|\s", "", bare)
    bare = re.sub(r"(?<=[0-9])/.*$", "", bare)
    bare = _bracketed(bare)
    if bare != address:
        findings.append(
            Finding(
                "An address must be `host:port`.",
                repr(address),
                "error",
                f"Use {bare!r}.",
            )
        )
    return bare


def _bracketed(address: str) -> str:
    """Puts a number of IPv6 into brackets, if the port after it is told."""
    host, _, port = address.rpartition(":")
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return address
    return f"[{host}]:{port}"


def _place(address: Any) -> str:
    return re.sub("^localhost:", "127.0.0.1:", str(address))


def _moved(
    address: Any, taken: set[str], searched: dict[str, int], findings: Findings
) -> Any:
    host, _, port = str(address).rpartition(":")
    if not ports.is_port(port):
        return address
    # All up to where the search for it has ended before are taken.
    number = searched.get(address, int(port)) + 1
    while _place(f"{host}:{number}") in taken:
        number += 1
    if number > 65535:
        return address
    searched[address] = number
    free = f"{host}:{number}"
    findings.append(
        Finding(
            "Every process of a host must have a port of its own.",
            f"{address!r} a second time",
            "error",
            f"Use {free!r}, if that port is free.",
        )
    )
    return free


class _Reader:
    """Reads JSON, and what people write in its stead."""

    def __init__(self, text: str) -> None:
        self._text = text.strip()
        self._place = 0

    def config(self) -> dict[str, Any]:
        """Returns the object that the whole text stands for."""
        value = self._value()
        if self._text[self._place :].strip(" \n}],"):
            raise ValueError("more than one value")
        if isinstance(value, str) and value.lstrip().startswith("{"):
            return _Reader(value).config()
        if not value or not isinstance(value, dict):
            raise ValueError("not an object")
        return value

    def _next(self) -> str:
        blanks = _BLANKS.match(self._text, self._place)
        self._place = blanks.end() if blanks else self._place
        return self._text[self._place : self._place + 1]

    def _took(self, character: str) -> bool:
        if self._next() != character:
            return False
        self._place += 1
        return True

    def _value(self) -> Any:
        if self._took("{"):
            return self._object()
        if self._took("["):
            return self._list()
        # A bare address has a colon in it.
        return self._scalar(r"[^\s{}\[\],:\"'“”‘’]+(?::\d+)?")

    def _object(self) -> dict[str, Any]:
        found = {}
        while not self._took("}") and self._next():
            key = self._scalar(r"[^\s{}\[\],:\"'“”‘’]+")
            if not self._took(":"):
                raise ValueError("a name without a value")
            found[str(key)] = self._value()
            self._took(",")
        return found

    def _list(self) -> list[Any]:
        found: list[Any] = []
        while not self._took("]") and self._next():
            # `["host": 12345]` is an address whose quotes end too early.
            if self._took(":") and not found:
                raise ValueError("a colon without a host")
            found.append(self._value())
            self._took(",")
        return found

    def _scalar(self, bare: str) -> Any:
        opening = self._next()
        if opening in _QUOTES and opening:
            end = self._place + 1
            while self._text[end : end + 1] not in (_QUOTES[opening], ""):
                end += 2 if self._text[end] == "\\" else 1
            if end >= len(self._text):
                raise ValueError("a quote without its end")
            value = self._text[self._place + 1 : end]
            self._place = end + 1
            return re.sub(r"\\(.)", r"\1", value)
        match = re.compile(bare).match(self._text, self._place)
        if not match:
            raise ValueError("no value")
        self._place = match.end()
        word = match[0]
        if re.fullmatch(r"-?[0-9]{1,18}", word):
            return int(word)
        return _WORDS.get(word.lower(), word)
