"""Plugin for pytest, installed with tfdp: `run_workers` and `logical_cpus`.

Every pytest of the environment loads it. TensorFlow is imported where a fixture
is used, not before.
"""

import itertools
import math
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from tfdp import testing

_DEFAULT_TIMEOUT = 120.0
_timeout_key = pytest.StashKey[float]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the deadline of `run_workers`, as an option and as a setting."""
    text = "seconds after which the fixture run_workers ends the workers"
    parser.getgroup("tfdp").addoption(
        "--tfdp-timeout", metavar="SECONDS", help=text
    )
    parser.addini("tfdp_timeout", f"{text} (default: {_DEFAULT_TIMEOUT:g})")


def pytest_configure(config: pytest.Config) -> None:
    """Reads the deadline.

    Raises:
        pytest.UsageError: If it is not a positive number.
    """
    for name, text in [
        ("--tfdp-timeout", config.getoption("--tfdp-timeout")),
        ("tfdp_timeout", config.getini("tfdp_timeout")),
    ]:
        if text:
            config.stash[_timeout_key] = _seconds(name, text)
            return
    config.stash[_timeout_key] = _DEFAULT_TIMEOUT


@pytest.fixture
def run_workers(
    request: pytest.FixtureRequest, tmp_path: pathlib.Path
) -> Callable[..., list[Any]]:
    """Runs a script or a function as workers: `tfdp.testing.run_workers`.

    The deadline is that of `--tfdp-timeout`, or of `tfdp_timeout` in the
    settings, or 120 seconds. All that the workers print is kept in `tmp_path`.
    """
    calls = itertools.count(1)

    def run(
        script: str | os.PathLike[str] | Callable[..., Any],
        num_workers: int,
        args: Sequence[Any] = (),
        *,
        timeout: float | None = None,
        env: Mapping[str, str] | None = None,
        log_dir: str | os.PathLike[str] | None = None,
        asynchronous: bool = False,
        max_restarts: int = 0,
    ) -> list[Any]:
        if timeout is None:
            timeout = request.config.stash[_timeout_key]
        if log_dir is None:
            log_dir = tmp_path / f"workers-{next(calls)}"
        try:
            return testing.run_workers(
                script,
                num_workers,
                args,
                timeout=timeout,
                env=env,
                log_dir=log_dir,
                asynchronous=asynchronous,
                max_restarts=max_restarts,
            )
        except (RuntimeError, TimeoutError) as error:
            error.add_note(f"All that the workers printed: {log_dir}")
            raise

    return run


@pytest.fixture(scope="session")
def logical_cpus() -> Callable[[int], list[str]]:
    """Splits the processor into devices: `tfdp.testing.logical_cpus`."""
    return testing.logical_cpus


def _seconds(name: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise pytest.UsageError(
            f"{name} must be a positive number of seconds. Received: "
            f"{name}={text}. Leave it out for {_DEFAULT_TIMEOUT:g}."
        )
    return seconds
