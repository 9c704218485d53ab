"""Checks what a release would be: `python tests/shared/release.py`.

Builds sdist and wheel, checks their metadata, installs the wheel without extras
in a new environment, and runs the program of the README there, alone and with
two workers. Stops at the first thing that is not as it should be.
"""

import pathlib
import re
import subprocess
import sys
import tempfile
import venv

from places import ROOT


def version_of(wheel):
    return wheel.name.split("-")[1]


def run(command, folder):
    """Returns what a command has printed; ends with all of it if it fails."""
    print("$", *(pathlib.Path(part).name for part in command), flush=True)
    result = subprocess.run(
        list(map(str, command)), cwd=folder, capture_output=True, text=True
    )
    if result.returncode:
        sys.exit(result.stdout + result.stderr)
    return result.stdout


def check_names(version, root=ROOT, tags=()):
    """Returns what of the project's texts does not know a version.

    Args:
        version: Version of what was built.
        root: Folder of the project.
        tags: Names that git gives to the commit.
    """
    wrong = []
    changes = (root / "CHANGELOG.md").read_text()
    if not re.search(rf"^## \[{re.escape(version)}\]", changes, re.MULTILINE):
        wrong.append(f"CHANGELOG.md has no section [{version}].")
    citation = (root / "CITATION.cff").read_text()
    if not re.search(rf"^version: {re.escape(version)}$", citation, re.M):
        wrong.append(f"CITATION.cff is of another version than {version}.")
    released = [tag for tag in tags if re.match(r"v\d", tag)]
    if released and f"v{version}" not in released:
        wrong.append(
            f"The commit is tagged {', '.join(released)}, not v{version}."
        )
    return wrong


def losses(printed):
    return [float(loss) for loss in re.findall(r" loss: ([\d.]+)", printed)]


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        python = [sys.executable, "-m"]
        run([*python, "build", "--outdir", folder / "dist", ROOT], folder)
        built = sorted((folder / "dist").iterdir())
        run([*python, "twine", "check", "--strict", *built], folder)
        (wheel,) = (path for path in built if path.suffix == ".whl")
        tags = run(["git", "tag", "--points-at", "HEAD"], ROOT).split()
        if wrong := check_names(version_of(wheel), tags=tags):
            sys.exit("\n".join(wrong))
        venv.create(folder / "fresh", with_pip=True)
        commands = folder / "fresh" / "bin"
        pip = [commands / "python", "-m", "pip", "--disable-pip-version-check"]
        run([*pip, "install", "--quiet", wheel], folder)
        run([*pip, "check"], folder)
        readme = (ROOT / "README.md").read_text()
        program = re.search(r"^```python\n(.*?)^```$", readme, re.M | re.S)[1]
        (folder / "train.py").write_text(program)
        alone = losses(run([commands / "python", "train.py"], folder))
        launch = [commands / "tfdp", "launch", "--workers", "2", "train.py"]
        together = losses(run(launch, folder))
    if not alone or len(alone) != len(together) or alone[-1] >= alone[0]:
        sys.exit(f"Losses of one process {alone}, of two workers {together}.")
    print(*(path.name for path in built), "can be released.")
    print(f"Losses of one process {alone}, of two workers {together}.")


if __name__ == "__main__":
    main()
