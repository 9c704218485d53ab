"""Deletes names of Keras and TensorFlow, and imports all of tfdp."""

import importlib
import json
import pkgutil
import sys

import keras  # noqa: F401
import tensorflow  # noqa: F401


def found(place):
    top, *parts = place.split(".")
    owner, path = importlib.import_module(top), top
    for part in parts:
        path = f"{path}.{part}"
        if hasattr(owner, part):
            owner = getattr(owner, part)
        else:
            owner = importlib.import_module(path)
    return owner


deleted = []
for place in json.loads(sys.argv[1]):
    home, _, name = place.rpartition(".")
    try:
        deleted.append((found(home), name))
    except ImportError:
        # Of another release.
        continue
for owner, name in deleted:
    vars(owner).pop(name, None)

rooms = []
for name in ("tfdp", "tfdp.callbacks"):
    package = importlib.import_module(name)
    rooms += [
        importlib.import_module(module.name).__name__
        for module in pkgutil.walk_packages(package.__path__, f"{name}.")
        if not module.name.endswith("__main__")
    ]
doorway = importlib.import_module("tfdp.upstream.keras.keras_losses")
try:
    doorway.mask_of(None)
except RuntimeError as error:
    print(json.dumps([rooms, str(error)]))
