"""Several runs beside each other: their names, and how they scale."""

import dataclasses
import os
import pathlib
from collections.abc import Sequence

from tfdp.report.run import Run


@dataclasses.dataclass(frozen=True)
class Scaling:
    """How much faster a run is than the one with the fewest replicas.

    Attributes:
        run: The run.
        replicas: Its replicas, of all workers.
        samples_per_second: Its samples per second.
        speedup: These over those of the run with the fewest replicas.
        efficiency: The speed-up over what its replicas would bring at best.
    """

    run: Run
    replicas: int
    samples_per_second: float
    speedup: float
    efficiency: float


def read(
    folders: Sequence[str | os.PathLike[str]], names: Sequence[str] = ()
) -> list[Run]:
    """Reads runs that are to be told apart.

    Args:
        folders: Folder of each run.
        names: What to call them. Defaults to the names of their folders, with
            as much of the path as makes them unique.

    Returns:
        The runs.

    Raises:
        ValueError: If a folder or name is given twice, if there are names but
            not one for each run, or if a log is missing or malformed.
    """
    return [
        Run.read(folder, name)
        for folder, name in zip(folders, called(folders, names), strict=True)
    ]


def called(
    folders: Sequence[str | os.PathLike[str]], names: Sequence[str] = ()
) -> Sequence[str]:
    """Returns what to call runs that are to be told apart.

    Args:
        folders: Folder of each run.
        names: What to call them; may be empty, as for `read`.

    Raises:
        ValueError: If a folder or name is given twice, or if there are names
            but not one for each run.
    """
    paths = [pathlib.Path(folder).resolve() for folder in folders]
    if repeated := _repeated(paths):
        raise ValueError(
            f"Every run must be given once. Received: {repeated} twice. "
            "Leave one out."
        )
    if names and len(names) != len(paths):
        raise ValueError(
            "There must be as many names as runs, or none. Received: "
            f"{len(names)} names for {len(paths)} runs. Name each run."
        )
    if repeated := _repeated(names):
        raise ValueError(
            f"Every run must have its own name. Received: {repeated} twice. "
            "Give another."
        )
    return names or _unique_names(paths)


def scalings(runs: Sequence[Run]) -> list[Scaling]:
    """Returns how runs scale that have measured rates, fewest replicas first.

    Args:
        runs: Some runs. Of those with the fewest replicas the first is what
            the others are compared with.

    Returns:
        The scaling of each; nothing where fewer than two can be compared.
    """
    known = [
        (run, run.replicas, rate)
        for run in runs
        if run.replicas and (rate := run.samples_per_second)
    ]
    if len(known) < 2:
        return []
    known.sort(key=lambda item: item[1])
    _, base_replicas, base_rate = known[0]
    return [
        Scaling(
            run,
            replicas,
            rate,
            speedup=rate / base_rate,
            efficiency=rate / base_rate * base_replicas / replicas,
        )
        for run, replicas, rate in known
    ]


def unit_of(runs: Sequence[Run]) -> str:
    """Returns what the samples of some runs are called, capitalized."""
    return " or ".join(dict.fromkeys(run.unit.capitalize() for run in runs))


def _repeated(values: Sequence[object]) -> object | None:
    return next((x for x in values if values.count(x) > 1), None)


def _unique_names(paths: Sequence[pathlib.Path]) -> list[str]:
    names = [path.name or str(path) for path in paths]
    for depth in range(2, max(len(path.parts) for path in paths) + 1):
        names = [
            "/".join(path.parts[-depth:]) if names.count(name) > 1 else name
            for name, path in zip(names, paths, strict=True)
        ]
    return names
