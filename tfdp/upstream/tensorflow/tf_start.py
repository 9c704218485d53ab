"""TensorFlow's start among several workers, which this process can end.

A doorway to private names of TensorFlow, each of which has a contract in
`tests/upstream/test_tf_start.py`.

TensorFlow starts its server, and waits for the other workers, in one call that
keeps Python's lock: no handler of a signal runs, no thread, until the last of
them is there, which may be never. Here the same function of the same library
is called without that lock.
"""

import contextlib
import ctypes
import functools
import glob
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from tfdp.upstream.private import Member, Name, optional

_ENDED = "a worker that waits for others cannot be ended while it starts"
_context = Name("tensorflow.python.eager.context.context", serves=_ENDED)
_server_def = Member("_collective_ops_server_def", serves=_ENDED)
_handle = Member("_context_handle", serves=_ENDED)
_lock = Member("_initialize_lock", serves=_ENDED)
_initialize_devices = Member("_initialize_logical_devices", serves=_ENDED)
_clear_caches = Member("_clear_caches", serves=_ENDED)
_MEMBERS = (_server_def, _lock, _initialize_devices, _clear_caches)


@contextlib.contextmanager
def endable_start(wait: Callable[[threading.Thread], object]) -> Iterator[None]:
    """Has a strategy that is made within this context wait so for the others.

    Where TensorFlow's library has not the names this needs, it waits as it
    always does.

    Args:
        wait: Called with the thread that starts TensorFlow; returns when that
            has ended, or raises.
    """
    library = None
    with optional():
        own = _context.find()()
        for each in _MEMBERS:
            each.check(own)
        library = _library()
    if library is None:
        yield
        return

    def enable_collective_ops(server_def: Any) -> None:
        _enable(own, library, server_def, wait)

    own.enable_collective_ops = enable_collective_ops
    try:
        yield
    finally:
        del own.enable_collective_ops


def _enable(
    own: Any,
    library: ctypes.CDLL,
    server_def: Any,
    wait: Callable[[threading.Thread], object],
) -> None:
    """Does what the method of that name does where TensorFlow has started."""
    own.ensure_initialized()
    _server_def.replace(own, server_def)
    handle = _handle.of(own)
    text = server_def.SerializeToString()
    failures: list[Exception] = []

    def call() -> None:
        try:
            _call(library, handle, text)
        except Exception as error:
            failures.append(error)

    # Should this process end before it returns, nothing may be taken from it.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(handle))
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    wait(thread)
    ctypes.pythonapi.Py_DecRef(ctypes.py_object(handle))
    if failures:
        raise failures[0]
    with _lock.of(own):
        _initialize_devices.of(own)()
        _clear_caches.of(own)()


def _call(library: ctypes.CDLL, handle: Any, text: bytes) -> None:
    python = ctypes.pythonapi
    python.PyCapsule_GetName.restype = ctypes.c_char_p
    python.PyCapsule_GetPointer.restype = ctypes.c_void_p
    capsule = ctypes.py_object(handle)
    name = ctypes.c_char_p(python.PyCapsule_GetName(capsule))
    pointer = ctypes.c_void_p(python.PyCapsule_GetPointer(capsule, name))
    status = ctypes.c_void_p(library.TF_NewStatus())
    try:
        library.TFE_EnableCollectiveOps(
            pointer, text, ctypes.c_size_t(len(text)), status
        )
        code = library.TF_GetCode(status)
        if code:
            message = library.TF_Message(status).decode(errors="replace")
            kind = tf.compat.v1.errors.exception_type_from_error_code(code)
            raise kind(None, None, message)
    finally:
        library.TF_DeleteStatus(status)


@functools.cache
def _library() -> ctypes.CDLL | None:
    """Returns TensorFlow's library, if it has what is called here."""
    folder = tf.sysconfig.get_lib()
    for path in glob.glob(os.path.join(folder, "libtensorflow_cc.*")):
        with contextlib.suppress(OSError, AttributeError):
            library = ctypes.CDLL(path)
            library.TF_NewStatus.restype = ctypes.c_void_p
            library.TF_Message.restype = ctypes.c_char_p
            library.TF_GetCode.restype = ctypes.c_int
            library.TF_DeleteStatus.restype = None
            library.TFE_EnableCollectiveOps.restype = None
            return library
    return None
