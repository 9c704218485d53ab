"""A Markdown table under a line that names the machine and the versions."""

import importlib.metadata
import platform

from harness.turns import machine

PACKAGES = ("tensorflow", "keras", "tfdp")


def print_head(*columns, packages=PACKAGES, more=()):
    """Prints the machine, the versions of packages, more, and the columns."""
    found = [f"{p} {importlib.metadata.version(p)}" for p in packages]
    python = f"Python {platform.python_version()}"
    print(machine(python, *found, *more), end="\n\n")
    print_row(*columns)
    print_row(*["---"] * len(columns))


def print_row(*cells):
    """Prints one row, at once."""
    print("|", " | ".join(map(str, cells)), "|", flush=True)
