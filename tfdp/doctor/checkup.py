"""Whether training would start here, found out before it does."""

import platform
import re
import shlex
import socket
from collections.abc import Iterator
from importlib import metadata

from tfdp.cluster import Cluster, source, tf_config_text, whereabouts
from tfdp.cluster.roll_call import Appointment
from tfdp.doctor.hardware import (
    communication,
    cores,
    devices,
    kernels,
    precision,
    quiet,
)
from tfdp.doctor.section import Line, Section, Severity
from tfdp.doctor.tf_config import mended
from tfdp.machine import listening, ports
from tfdp.settings import start_timeout


def diagnosis(*, timeout: float = 2.0) -> Iterator[Section]:
    """Looks at everything that training needs at its start.

    Imports TensorFlow, but reserves no GPU and sends nothing to other workers
    but a connection that is closed at once.

    Args:
        timeout: Seconds to wait for the answer of another worker's host.
            Defaults to 2.

    Yields:
        One section after the other, as soon as it is known.

    Example:

    >>> [section.title for section in diagnosis()]
    ['versions', 'cluster', 'devices', 'cores', 'kernels', 'precision']
    """
    versions = _versions()
    yield versions
    found, section = _cluster()
    yield section
    cluster = found if isinstance(found, Cluster) else None
    if cluster is not None:
        yield _peers(cluster, timeout)
    if isinstance(found, Appointment):
        yield _meeting_point(found, timeout)
    if not versions.errors:
        yield devices(cluster)
        yield cores(cluster)
        yield kernels()
        if isinstance(cluster, Cluster) and cluster.num_workers > 1:
            yield communication()
        yield precision()


def _versions() -> Section:
    package = metadata.metadata("tfdp")
    lines = [
        Line("fine", f"tfdp {package['Version']}"),
        _version(
            "python", platform.python_version(), package["Requires-Python"]
        ),
    ]
    try:
        with quiet():
            import keras
            import numpy
            import tensorflow
    except Exception as error:
        # Also what a broken installation raises that is no ImportError.
        text = (
            "TensorFlow and Keras must be importable. Received: "
            f"{type(error).__name__}: {error}. Install them anew: pip install "
            "--force-reinstall tensorflow keras"
        )
        return Section("versions", (*lines, Line("error", text)))
    needed = {
        match[1]: match[2]
        for text in package.get_all("Requires-Dist") or ()
        if (match := re.match(r"([\w-]+)\s*\(?([<>=!~][^;)]*)", text))
    }
    for module in (tensorflow, keras):
        name = module.__name__
        lines.append(_version(name, module.__version__, needed.get(name, "")))
    lines.append(_version("numpy", numpy.__version__, ""))
    lines.append(_backend(keras.backend.backend()))
    return Section("versions", tuple(lines))


def _version(name: str, version: str, needed: str) -> Line:
    if _satisfies(version, needed):
        wanted = f" (needed: {needed.strip()})" if needed else ""
        return Line("fine", f"{name} {version}{wanted}")
    return Line(
        "error",
        f"The version of {name} must be {needed.strip()}. Received: "
        f"{name} {version}. Install one of these.",
    )


def _satisfies(version: str, needed: str) -> bool:
    """Whether a version lies in a range such as `">=3.11,<3.14"`."""
    for sign, bound in re.findall(r"(>=|<)\s*([\d.]+)", needed):
        first, second = (
            [int(n) for n in re.findall(r"\d+", text)[:3]]
            for text in (version, bound)
        )
        length = max(len(first), len(second))
        first += [0] * (length - len(first))
        second += [0] * (length - len(second))
        if (first >= second) != (sign == ">="):
            return False
    return True


def _backend(name: str) -> Line:
    if name == "tensorflow":
        return Line("fine", "Keras computes with tensorflow")
    return Line(
        "error",
        f"Keras must compute with TensorFlow. Received: backend={name!r}. Set "
        "KERAS_BACKEND=tensorflow, or `backend` in ~/.keras/keras.json.",
    )


def _cluster() -> tuple[Cluster | Appointment | None, Section]:
    lines = []
    cluster: Cluster | Appointment | None = None
    problem = ""
    text = tf_config_text()
    try:
        # The others are not met: they may be asked later, or not at all.
        found = whereabouts()
        if isinstance(found, Appointment):
            cluster = found
        else:
            cluster = Cluster.from_environment()
        lines.append(Line("fine", f"found in: {source()}"))
    except ValueError as error:
        problem = str(error)
    if text and (cluster or problem):
        better, findings = mended(text)
        for finding in findings:
            is_error = problem or finding.severity == "error"
            severity: Severity = "error" if is_error else "warning"
            lines.append(Line(severity, finding.message))
        if findings:
            export = f"export TF_CONFIG={shlex.quote(better)}"
            lines.append(Line("warning", f"probably meant:\n{export}"))
            try:
                cluster, problem = Cluster.from_tf_config(better), ""
            except ValueError as error:
                problem = str(error)
    if problem:
        lines.append(Line("error", problem))
    if cluster:
        lines.append(Line("fine", cluster.describe()))
    elif not problem:
        lines.append(Line("fine", "a job of one process"))
    try:
        lines.append(
            Line(
                "fine",
                f"at the start, {start_timeout():g} s are waited for "
                "the others (TFDP_START_TIMEOUT)",
            )
        )
    except ValueError as error:
        lines.append(Line("error", str(error)))
    return cluster, Section("cluster", tuple(lines))


def _peers(cluster: Cluster, timeout: float) -> Section:
    lines = []
    try:
        cluster.check_port()
        lines.append(Line("fine", f"{cluster.address} is free (this process)"))
    except RuntimeError as error:
        lines.append(Line("error", str(error)))
    if cluster.address:
        host, _ = ports.split_address(cluster.address)
        if not ports.is_of_this_machine(host):
            lines.append(
                Line(
                    "warning",
                    "This process's address should be one of this machine. "
                    f"Received: {cluster.address} on {socket.gethostname()}. "
                    "Unless something forwards to here, the others will look "
                    "for it elsewhere: check the task's index.",
                )
            )
    others = [
        address
        for addresses in cluster.hosts.values()
        for address in addresses
        if address != cluster.address
    ]
    for address, reach in ports.reach(others, timeout=timeout).items():
        lines.append(_peer(address, reach))
    lines += _exposure(cluster)
    return Section("ports", tuple(lines))


def _meeting_point(appointment: Appointment, timeout: float) -> Section:
    """Whether this process can listen, or go, to where all workers meet."""
    address = appointment.address
    if appointment.is_host:
        try:
            listening.check_free(address, owner="where all workers meet")
        except RuntimeError as error:
            return Section("ports", (Line("error", str(error)),))
        text = f"{address} is free (this process holds the roll call)"
        return Section("ports", (Line("fine", text),))
    (reach,) = ports.reach([address], timeout=timeout).values()
    return Section("ports", (_peer(address, reach),))


def _exposure(cluster: Cluster) -> list[Line]:
    """Whether others than the workers of this machine can reach them."""
    outside = ports.outside_addresses()
    if not (cluster.is_local and cluster.num_workers > 1 and outside):
        return []
    return [
        Line(
            "warning",
            "Workers of one machine should be out of reach of others. "
            f"Received: {cluster.address}, on a machine that is also "
            f"{', '.join(outside)}. TensorFlow listens there too, and whoever "
            "reaches its port can read and write files as you. Use `tfdp "
            "launch --isolated`, or a firewall; "
            "docs/how_to/machines/security.md.",
        )
    ]


def _peer(address: str, reach: ports.Reach) -> Line:
    if not reach.is_there:
        return Line(
            "error",
            "Every worker must be reachable. Received: "
            f"{address}: {reach.failure}. Correct the address, or let the "
            "network pass it.",
        )
    if not reach.is_listening:
        return Line("fine", f"{address} is there and does not listen yet")
    host, port = ports.split_address(address)
    holder = ports.holder(port) if ports.is_of_this_machine(host) else ""
    return Line("fine", f"{address} listens{holder and f': {holder}'}")
