"""Finds the rows, and measures each in a process of its own.

A row is a function named after it: `a6` or `a6_value`. The first paragraph of
its docstring is the row's text; `Test:` names the test that holds it.
"""

import ast
import contextlib
import dataclasses
import importlib
import multiprocessing
import os
import pathlib
import re
import signal
import traceback

HERE = pathlib.Path(__file__).parent
SIDES = ("plain", "tfdp")
SECONDS = 150


@dataclasses.dataclass(frozen=True)
class Row:
    """One thing that goes wrong, and where it is measured."""

    function: str
    module: str
    text: str
    test: str

    @property
    def id(self):
        """Returns the letter and number."""
        return self.function.partition("_")[0].upper()

    @property
    def order(self):
        """Returns what rows are sorted by."""
        return self.id[0], int(self.id[1:])


def rows():
    """Returns all rows, without importing what measures them."""
    found = []
    for path in sorted(HERE.glob("rows_*.py")):
        for node in ast.parse(path.read_text()).body:
            if not isinstance(node, ast.FunctionDef):
                continue
            if re.fullmatch(r"[abc]\d+(_\w+)?", node.name):
                text, _, test = ast.get_docstring(node).partition("Test:")
                found.append(
                    Row(
                        node.name,
                        path.stem,
                        " ".join(text.split()),
                        "".join(test.split()) or "-",
                    )
                )
    return sorted(found, key=lambda row: row.order)


def server():
    """Returns where processes come from: copies of one that has imported."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tfdp"])
    return context


def measured(context, row, side):
    """Measures one side of a row.

    Returns:
        What to write in the table, and the error behind it, if any.
    """
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(
        target=_measure, args=(theirs, row.module, row.function, side)
    )
    process.start()
    theirs.close()
    try:
        return ours.recv() if ours.poll(SECONDS) else ("hang", "")
    except EOFError:
        process.join()
        if process.exitcode >= 0:
            raise RuntimeError(f"{row.function} is no sound row") from None
        return f"crash: {signal.Signals(-process.exitcode).name}", ""
    finally:
        process.kill()
        process.join()


def written(value):
    """Returns a number as the table has it; a text stays what it is."""
    if isinstance(value, float) and value != value:
        return "NaN"
    return f"{value:.2g}" if isinstance(value, float) else str(value)


def told(error):
    """Returns what the table says of an error: who raised it, and its type."""
    import tfdp

    frames = traceback.extract_tb(error.__traceback__)
    if "on_one_device" in {frame.name for frame in frames}:
        raise error
    raised_in = frames[-1].filename
    ours = {pathlib.Path(m.__file__).parent for m in (tfdp, tfdp.callbacks)}
    how = "refused" if pathlib.Path(raised_in).parent in ours else "crash"
    return f"{how}: {type(error).__name__}"


def _measure(connection, module, function, side):
    with open(os.devnull, "w") as nothing, contextlib.ExitStack() as stack:
        for number in (1, 2):
            os.dup2(nothing.fileno(), number)
        stack.enter_context(contextlib.redirect_stdout(nothing))
        stack.enter_context(contextlib.redirect_stderr(nothing))
        connection.send(outcome(module, function, side))


def show_all_frames():
    """Has errors tell where they were raised, be it in a library."""
    import keras
    import tensorflow as tf

    keras.config.disable_traceback_filtering()
    tf.debugging.disable_traceback_filtering()


def outcome(module, function, side):
    """Runs one side of a row in this process, whatever becomes of it."""
    import tensorflow as tf

    import tfdp

    tf.config.set_visible_devices([], "GPU")
    tfdp.testing.logical_cpus(4)
    show_all_frames()
    from sides import Side

    measure = getattr(importlib.import_module(module), function)
    try:
        return written(measure(Side(side == "tfdp"))), ""
    except Exception as error:
        return told(error), traceback.format_exc()
