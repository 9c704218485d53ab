"""Programs that examine the cluster that they are started on, and report.

Each worker is a process of its own, started by `tfdp.cli.probe`, or as the
training would be.
"""

import argparse
import traceback
from collections.abc import Callable
from typing import Any

from tfdp.cluster import Cluster
from tfdp.strategy import auto_strategy

Say = Callable[[str], None]


def parser(module: str) -> argparse.ArgumentParser:
    """Returns what reads the options that all probes have.

    Args:
        module: Its name, which `python -m` starts.
    """
    found = argparse.ArgumentParser(prog=f"python -m {module}")
    found.add_argument(
        "--prefix", default="", help="what each line of the report begins with"
    )
    return found


def run(examine: Callable[[Any, Say], bool], prefix: str) -> int:
    """Examines the cluster that this process belongs to.

    The chief says who is where. An error is said with the name of the worker;
    its traceback goes to the errors, unless it is one that explains itself.

    Args:
        examine: Is given a tfdp strategy, and what prints the lines of a
            text; returns whether all is well.
        prefix: What each line begins with.

    Returns:
        The exit code: 0 where all is well, else 1.
    """

    def say(text: str) -> None:
        for line in text.splitlines():
            print(f"{prefix}{line}", flush=True)

    name = "this process"
    try:
        cluster = Cluster.from_environment()
        if cluster and cluster.is_training and cluster.num_workers > 1:
            name = f"worker {cluster.index} ({cluster.address})"
            if cluster.is_chief:
                say(cluster.describe())
        return 0 if examine(auto_strategy(), say) else 1
    except Exception as error:
        if not isinstance(error, (ValueError, RuntimeError, TimeoutError)):
            traceback.print_exc()
        say(f"{name} failed: {error}")
        return 1
