"""What a function is sent to its workers by, and what they send back."""

import collections
import contextlib
import io
import linecache
import pathlib
import pickle
import sys
import tempfile
import types
from collections.abc import Callable, Sequence
from typing import Any

import cloudpickle

from tfdp.calls import called


class CallFolder(contextlib.AbstractContextManager):
    """A private folder with a function, which only this user can look into.

    Functions and classes of the main program, as those of a notebook's cells,
    are sent whole; what is of a module is imported by the worker, along the
    same `sys.path`. Lines of cells are sent too: tracebacks show them, and
    AutoGraph reads them.

    Args:
        function: What the workers call.
        args: What they call it with.

    Attributes:
        command: Program and arguments of each worker.

    Raises:
        TypeError: If function or arguments cannot be sent.

    Example:

    >>> with CallFolder(lambda x: x + 1, [1]) as folder:
    ...     print(folder.value(0))
    None
    """

    def __init__(self, function: Callable[..., Any], args: Sequence[Any]):
        """Writes the function down."""
        call = {
            "path": sys.path,
            # Those that are in no file.
            "lines": {
                name: entry
                for name, entry in linecache.cache.items()
                if len(entry) == 4 and entry[1] is None
            },
            "call": _pickled(function, tuple(args)),
        }
        self._folder = tempfile.TemporaryDirectory(
            prefix="tfdp-call-", ignore_cleanup_errors=True
        )
        self._path = pathlib.Path(self._folder.name)
        self.command = [sys.executable, "-u", "-P", called.__file__]
        self.command.append(self._folder.name)
        (self._path / called.CALL).write_bytes(pickle.dumps(call))

    def __exit__(self, *exception: object) -> None:
        """Removes the folder."""
        self._folder.cleanup()

    def value(self, worker: int) -> tuple[Any] | None:
        """Returns what the function has returned, in a tuple.

        Args:
            worker: Index of the worker.

        Returns:
            `None` where it has returned nothing yet, not even `None`.
        """
        try:
            content = (self._path / called.value_file(worker)).read_bytes()
        except FileNotFoundError:
            return None
        return (pickle.loads(content),)

    def traceback(self, worker: int) -> str:
        """Returns the traceback of what the function has raised.

        Args:
            worker: Index of the worker.

        Returns:
            The text, without a line end; empty where it has raised nothing.
        """
        try:
            file = self._path / called.traceback_file(worker)
            return file.read_text(encoding="utf-8").rstrip("\n")
        except FileNotFoundError:
            return ""


def _code(code: types.CodeType) -> tuple[Any, ...]:
    function, args = cloudpickle.Pickler.dispatch_table[types.CodeType](code)
    names = {"<dynamic-code>": code.co_filename}
    return function, tuple(
        names.get(x, x) if isinstance(x, str) else x for x in args
    )


class _Pickler(cloudpickle.Pickler):
    """Keeps the names of files, by which lines are found."""

    dispatch_table = collections.ChainMap(
        {types.CodeType: _code}, cloudpickle.Pickler.dispatch_table
    )


def _pickled(function: Callable[..., Any], args: tuple[Any, ...]) -> bytes:
    content = io.BytesIO()
    try:
        _Pickler(content).dump((function, args))
        return content.getvalue()
    # Whatever an object says about itself.
    except Exception as error:
        name = getattr(function, "__qualname__", repr(function))
        raise TypeError(
            "A function must be sent to its workers, with its arguments and "
            f"all that it names. Received: {name}, of which something cannot "
            f"be sent ({type(error).__name__}: {error}). Make strategies, "
            "datasets and the like inside of the function."
        ) from error
