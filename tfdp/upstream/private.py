"""Private names of Keras and TensorFlow, looked up when they are used.

A doorway declares each of its names by one of these. A name that a release has
moved takes down the functions that need it, when they are called, and nothing
that only imports them.
"""

import contextlib
import importlib
import sys
import warnings
from collections.abc import Iterator
from importlib import metadata
from typing import Any


class MissingNameError(RuntimeError):
    """A private name that tfdp needs is not in this Keras or TensorFlow.

    Args:
        name: The name that was looked for.
        places: Where it was looked for.
        serves: What cannot be done without it.
    """

    def __init__(self, name: str, places: str, serves: str) -> None:
        super().__init__(
            "tfdp needs private names of Keras and TensorFlow, which a release "
            f"may move. Received: no `{name}` in {places} ({_versions()}); "
            f"without it, {serves}. Use an older Keras and TensorFlow, or a "
            "newer tfdp, and report this message in tfdp's issue tracker."
        )
        self.name = name


class Name:
    """A function, class or module that is not public.

    Args:
        places: Its full name, in each release that is supported; the first
            that is there is taken.
        serves: What cannot be done without it, for the message.

    Example:

    >>> Name("keras.src.backend.floatx", serves="nothing is typed").find()()
    'float32'
    """

    def __init__(self, *places: str, serves: str) -> None:
        self.places = places
        self.serves = serves

    def find(self) -> Any:
        """Returns what has the name.

        Raises:
            MissingNameError: If it is in none of its places.
        """
        for place in self.places:
            try:
                return _found(place)
            except (ImportError, AttributeError):
                continue
        name = self.places[0].rpartition(".")[2]
        raise MissingNameError(name, " or ".join(self.places), self.serves)


class Member:
    """An attribute of theirs that is not public.

    Args:
        name: Its name.
        serves: What cannot be done without it, for the message.

    Example:

    >>> import keras
    >>> rate = Member("_learning_rate", serves="schedules are not kept")
    >>> rate.of(keras.optimizers.SGD(0.5)).numpy()
    np.float32(0.5)
    """

    def __init__(self, name: str, *, serves: str) -> None:
        self.name = name
        self.serves = serves

    def of(self, owner: Any) -> Any:
        """Returns the attribute of an object.

        Raises:
            MissingNameError: If the object has none of that name.
        """
        self.check(owner)
        return getattr(owner, self.name)

    def replace(self, owner: Any, value: Any) -> None:
        """Sets the attribute of an object, which would read it.

        Raises:
            MissingNameError: If the object has none of that name, so that
                nothing would read it.
        """
        self.check(owner)
        setattr(owner, self.name, value)

    def check(self, owner: Any) -> None:
        """Checks that an object has the attribute.

        Raises:
            MissingNameError: If it has not.
        """
        if not hasattr(owner, self.name):
            kind = owner if isinstance(owner, type) else type(owner)
            raise MissingNameError(self.name, kind.__name__, self.serves)


@contextlib.contextmanager
def optional() -> Iterator[None]:
    """Goes on without a private name that is not there, with a warning.

    For what makes a training better, and not what makes it right.
    """
    try:
        yield
    except MissingNameError as error:
        warnings.warn(str(error), stacklevel=3)


def _found(place: str) -> Any:
    top, *parts = place.split(".")
    found, path = _module(top), top
    for part in parts:
        path = f"{path}.{part}"
        # Else a module not imported yet, or hidden: `tensorflow.python`.
        is_there = hasattr(found, part)
        found = getattr(found, part) if is_there else _module(path)
    return found


def _module(path: str) -> Any:
    # Of an import in the middle of a graph AutoGraph warns.
    return sys.modules.get(path) or importlib.import_module(path)


def _versions() -> str:
    keras = importlib.import_module("keras").__version__
    tensorflow = importlib.import_module("tensorflow").__version__
    return (
        f"Keras {keras}, TensorFlow {tensorflow}, "
        f"tfdp {metadata.version('tfdp')}"
    )
