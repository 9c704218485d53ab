"""A function as the program of a worker.

Run as a program in the worker: it needs neither tfdp nor TensorFlow, so that
a function without them starts at once.
"""

import json
import linecache
import os
import pathlib
import pickle
import signal
import sys
import traceback

CALL = "call"


def value_file(worker: int) -> str:
    """Returns the name of the file with what a worker has returned.

    Args:
        worker: Its index.
    """
    return f"value-{worker}"


def traceback_file(worker: int) -> str:
    """Returns the name of the file that says what a worker has raised.

    Args:
        worker: Its index.
    """
    return f"traceback-{worker}"


def _main(folder: str) -> None:
    place = pathlib.Path(folder)
    worker = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
    call = pickle.loads((place / CALL).read_bytes())
    sys.path[:] = call["path"]
    linecache.cache.update(call["lines"])
    try:
        content = _returned(call["call"])
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except Exception as error:
        # Without the lines of this file.
        frames = error.__traceback__ and error.__traceback__.tb_next
        frames = frames and frames.tb_next
        told = "".join(traceback.format_exception(type(error), error, frames))
        (place / traceback_file(worker)).write_text(told, encoding="utf-8")
        sys.stderr.write(told)
        sys.exit(1)
    # Whole, or not there at all.
    draft = place / f"draft-{worker}"
    draft.write_bytes(content)
    draft.rename(place / value_file(worker))


def _returned(call: bytes) -> bytes:
    import cloudpickle

    function, args = pickle.loads(call)
    value = function(*args)
    try:
        return cloudpickle.dumps(value)
    except Exception as error:
        raise TypeError(
            "What a function returns must be sent back. Received: a "
            f"{type(value).__name__}, which cannot be ({error}). Return "
            "numbers, texts or arrays; save models to files."
        ) from None


if __name__ == "__main__":
    _main(*sys.argv[1:])
