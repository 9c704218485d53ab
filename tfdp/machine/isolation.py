"""A network of this process's own, with nobody in it but what it starts."""

import contextlib
import ctypes
import errno
import os
import pathlib
import socket
import struct
import sys

_NEW_USER = 0x10000000
_NEW_NETWORK = 0x40000000
_SET_FLAGS = 0x8914
_IS_UP = 0x1


def isolate() -> None:
    """Moves this process, and all it starts from now on, to a new network.

    There is nothing but loopback in it: no other process of the machine can
    connect to theirs, nor they to anything else. Files, devices and signals
    stay as they are. As root a network is made alone, else a user namespace
    with it (see `man unshare`), in which this user is still itself. Must be
    called before the process has threads.

    Raises:
        RuntimeError: If this system does not let a process do so.
    """
    try:
        try:
            _unshare(_NEW_NETWORK)
        except PermissionError:
            user, group = os.geteuid(), os.getegid()
            _unshare(_NEW_USER | _NEW_NETWORK)
            _map_to_itself(user, group)
        _bring_up_loopback()
    except OSError as error:
        raise RuntimeError(
            "The system must let a process have a network of its own. "
            f"Received: {sys.platform}: {error.strerror}. It needs Linux with "
            "user namespaces (`unshare --user --net true` tries), which "
            "containers and some distributions forbid. Run without isolation "
            "on a machine that only you can reach, or behind a firewall."
        ) from error


def _unshare(flags: int) -> None:
    # Of Python 3.12.
    unshare = getattr(os, "unshare", None)
    if unshare is not None:
        unshare(flags)
        return
    function = getattr(ctypes.CDLL(None, use_errno=True), "unshare", None)
    if function is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if function(flags):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _map_to_itself(user: int, group: int) -> None:
    own = pathlib.Path("/proc/self")
    # Older kernels have no such file, and do not ask for it.
    with contextlib.suppress(FileNotFoundError):
        (own / "setgroups").write_text("deny")
    (own / "uid_map").write_text(f"{user} {user} 1")
    (own / "gid_map").write_text(f"{group} {group} 1")


def _bring_up_loopback() -> None:
    import fcntl  # not on every system

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sH14x", b"lo", _IS_UP)
        fcntl.ioctl(any_socket, _SET_FLAGS, request)
