"""Stacks of threads as `faulthandler` writes them; whose their lines are."""

import dataclasses
import functools
import importlib.util
import os
import pathlib
import re
import sysconfig

_THREAD = re.compile(r"^(?:Current thread|Thread) 0x\w+.*:$")
_FRAME = re.compile(r'^  File "(.*)", line (\d+) in (.*)$')
# They are between what a program calls and what calls it.
_ENGINES = ("keras", "tensorflow")


@dataclasses.dataclass(frozen=True)
class Frame:
    """A line that is being run.

    Attributes:
        file: Path of the source.
        line: Number of the line.
        function: Name of the function.

    Example:

    >>> print(Frame("/no/such/train.py", 41, "load"))
    /no/such/train.py:41 load
    """

    file: str
    line: int
    function: str

    @property
    def owner(self) -> str:
        """`"program"`, `"tfdp"`, `"engine"` or `"library"`."""
        return _owner(self.file)

    def __str__(self) -> str:
        """Says where it is."""
        return f"{_shown(self.file)}:{self.line} {self.function}"


@dataclasses.dataclass(frozen=True)
class ThreadStack:
    """What one thread runs.

    Attributes:
        frames: From the innermost one outwards.
        is_main: Whether it is the main thread.
    """

    frames: tuple[Frame, ...]
    is_main: bool

    def innermost(self, *owners: str) -> Frame | None:
        """Returns the innermost line of certain owners.

        Args:
            *owners: See `Frame.owner`.
        """
        for frame in self.frames:
            if frame.owner in owners:
                return frame
        return None

    @property
    def is_in_program(self) -> bool:
        """Whether a line of the program's own is being run.

        And not one of Keras, TensorFlow or tfdp that it has called.
        """
        frame = self.innermost("program", "tfdp", "engine")
        return frame is not None and frame.owner == "program"


def parsed(text: str) -> list[ThreadStack]:
    """Returns the stacks of a text by `faulthandler`, the main thread first.

    Args:
        text: All that was written at one signal.

    Example:

    >>> (stack,) = parsed(
    ...     "Current thread 0x00007f (most recent call first):\\n"
    ...     '  File "/no/such/train.py", line 41 in load\\n'
    ... )
    >>> print(stack.frames[0], stack.is_main)
    /no/such/train.py:41 load True
    """
    threads: list[list[Frame]] = []
    for line in text.splitlines():
        found = _FRAME.match(line)
        if _THREAD.match(line):
            threads.append([])
        elif found and threads:
            file, number, function = found.groups()
            threads[-1].append(Frame(file, int(number), function))
    # It writes of the newest first.
    return [
        ThreadStack(tuple(frames), is_main=place == 0)
        for place, frames in enumerate(reversed(threads))
    ]


def _owner(file: str) -> str:
    if file.startswith(_folders_of_tfdp()):
        return "tfdp"
    if file.startswith("<"):
        return "library"
    if os.path.basename(file).startswith("__autograph_generated_file"):
        return "engine"
    for name in ("site-packages", "dist-packages"):
        _, found, rest = file.partition(f"/{name}/")
        if found:
            return "engine" if rest.startswith(_ENGINES) else "library"
    return "library" if file.startswith(_folders_of_python()) else "program"


@functools.cache
def _folders_of_tfdp() -> tuple[str, ...]:
    # The sources of `tfdp.callbacks` may lie elsewhere.
    specs = [importlib.util.find_spec(x) for x in ("tfdp", "tfdp.callbacks")]
    places = [
        place
        for spec in specs
        if spec is not None
        for place in spec.submodule_search_locations or ()
    ]
    return tuple(os.path.join(place, "") for place in places)


@functools.cache
def _folders_of_python() -> tuple[str, ...]:
    names = ("stdlib", "platstdlib")
    return tuple(os.path.join(sysconfig.get_path(n), "") for n in names)


def _shown(file: str) -> str:
    for folder in _folders_of_tfdp():
        if file.startswith(folder):
            name = os.path.basename(os.path.dirname(folder))
            return f"{name}/{file.removeprefix(folder)}"
    path = pathlib.Path(file)
    if path.is_relative_to(pathlib.Path.cwd()):
        return str(path.relative_to(pathlib.Path.cwd()))
    return file
