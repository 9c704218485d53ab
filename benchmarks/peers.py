"""Interpreters of environments that tfdp's own does not go with.

    python benchmarks/peers.py NAME ...

makes those environments, where they are not there, and prints their
interpreters. What they hold is in `peers/NAME.txt`.
"""

import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
REQUIREMENTS = ROOT / "benchmarks" / "peers"


def python_of(name, folder=ROOT):
    """Returns the interpreter of an environment, which is made where missing.

    Args:
        name: Such as `"torch"`: that of a file of requirements.
        folder: Where `.venv-NAME` lies. Defaults to the repository.

    Returns:
        The path of the interpreter.

    Raises:
        ValueError: If there are no requirements of that name.
        SystemExit: If it cannot be installed; the next call begins anew.
    """
    requirements = REQUIREMENTS / f"{name}.txt"
    if not requirements.is_file():
        known = sorted(path.stem for path in REQUIREMENTS.glob("*.txt"))
        raise ValueError(
            "A peer must have a file of requirements. Received: "
            f"name={name!r}. Use one of {', '.join(known)}, or write "
            f"{requirements}."
        )
    environment = folder / f".venv-{name}"
    python = environment / "bin" / "python"
    # Written last: what was interrupted, or is of other requirements, lacks it.
    stamp = environment / ".installed"
    wanted = requirements.read_text()
    if stamp.is_file() and stamp.read_text() == wanted:
        return python
    # Not on the output, which may be a table for a page.
    print(
        f"Installing {requirements.relative_to(ROOT)} into {environment}",
        file=sys.stderr,
        flush=True,
    )
    pip = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    try:
        _run([sys.executable, "-m", "venv", "--clear", environment])
        _run([*pip, "-r", requirements])
    except subprocess.CalledProcessError as error:
        raise SystemExit(
            f"The environment of {name} must be installed. Received: "
            f"{error} Look whether {requirements.name} is for this Python "
            f"({sys.version.split()[0]}) and the network is there, and start "
            "this again."
        ) from error
    stamp.write_text(wanted)
    return python


def version_of(name):
    """Returns a peer's name and version, such as `torch 2.13.0`."""
    code = f"import importlib.metadata as m; print(m.version({name!r}))"
    command = [python_of(name), "-c", code]
    return f"{name} {subprocess.check_output(command, text=True).strip()}"


def _run(command):
    subprocess.run([str(word) for word in command], check=True)


if __name__ == "__main__":
    for each in sys.argv[1:]:
        print(python_of(each))
