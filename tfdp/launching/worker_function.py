"""A function of a test's module as the program of a worker.

Run as a program in the worker: it needs neither tfdp nor TensorFlow, so that
a function without them starts at once.
"""

import importlib.util
import inspect
import json
import operator
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any


def command_of(
    function: Callable[..., Any], args: Sequence[Any], *, report: str
) -> list[str]:
    """Returns the command that calls a function and prints what it returns.

    The function's module is loaded anew from its file, with the same
    `sys.path` as here.

    Args:
        function: A function that its module has under its name.
        args: Its arguments; anything JSON can hold.
        report: Text to print before the value it returns, as JSON, in a line
            of its own.

    Returns:
        Program and arguments.

    Raises:
        TypeError: If `function` is not a Python function, or JSON cannot hold
            `args`.
        ValueError: If it is not found by its name, as a lambda or a function
            inside of another is not, or its module is not a file.

    Example:

    >>> command_of(command_of, [1], report="-> ")[-2:]
    ['[1]', '-> ']
    """
    if not inspect.isfunction(function):
        raise TypeError(
            "A worker must run a script or a function. Received: "
            f"{function!r} (of type {type(function).__name__})."
        )
    code = inspect.unwrap(function).__code__
    name = function.__qualname__
    if "<" in name or not os.path.isfile(code.co_filename):
        raise ValueError(
            "Another process must find the function by its name, in the file "
            f"of its module. Received: {name} of {code.co_filename}. Define "
            "it with `def` at the top of a file; pass what it needs as `args`."
        )
    values = [json.dumps(list(args)), report]
    module = [function.__module__, os.path.abspath(code.co_filename), name]
    return [
        *(sys.executable, "-u", "-P", __file__),
        *(json.dumps(sys.path), *module, *values),
    ]


def _main(
    path: str, module: str, file: str, name: str, args: str, report: str
) -> None:
    sys.path[:] = json.loads(path)
    # Not as the main program, which would run the caller's once more.
    module = "__worker_main__" if module == "__main__" else module
    spec = importlib.util.spec_from_file_location(module, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot load {file} as a module")
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[module] = loaded
    spec.loader.exec_module(loaded)
    function = operator.attrgetter(name)(loaded)
    returned = function(*json.loads(args))
    # One write, so that no other output comes between value and line end.
    sys.stdout.write(f"{report}{json.dumps(returned)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _main(*sys.argv[1:])
