"""A network of one's own, where the system allows it; a refusal elsewhere."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import pytest

from tfdp.machine import isolation

PROGRAM = """
import json, os, socket, sys
from tfdp.machine import isolate
isolate()
with socket.create_server(("127.0.0.1", 0)) as server:
    socket.create_connection(server.getsockname()).close()
try:
    socket.create_connection(("127.0.0.1", int(sys.argv[1])), 2).close()
    is_reached = True
except OSError:
    is_reached = False
names = [name for _, name in socket.if_nameindex()]
print(json.dumps([names, is_reached, os.geteuid(), os.getegid()]))
"""


@pytest.fixture
def server():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def is_allowed():
    return any(
        subprocess.run(["unshare", *options, "true"], check=False).returncode
        == 0
        for options in (["--net"], ["--user", "--net"])
    )


needs_namespaces = pytest.mark.skipif(
    sys.platform != "linux" or not is_allowed(),
    reason="no network of one's own here",
)


@needs_namespaces
def test_there_is_nothing_but_loopback_and_the_user_stays_who_it_is(server):
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(server.getsockname()[1])],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert json.loads(result.stdout) == [
        ["lo"],
        False,
        os.geteuid(),
        os.getegid(),
    ]


@needs_namespaces
@pytest.mark.skipif(os.geteuid() != 0, reason="who is not root tries it above")
def test_who_is_not_root_may_do_so_too():
    source = pathlib.Path(isolation.__file__).read_text()
    program = source + (
        "\nisolate()\n"
        "print(os.geteuid(), os.getegid(), socket.if_nameindex())\n"
    )
    try:
        result = subprocess.run(
            ["python3", "-I", "-c", program],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
            user=65534,
            group=65534,
            extra_groups=[],
            cwd="/",
            env={"PATH": "/usr/bin:/bin"},
        )
    except FileNotFoundError:
        pytest.skip("no Python that everyone may run")
    assert result.stdout == "65534 65534 [(1, 'lo')]\n"


def test_a_system_that_forbids_it_is_told(monkeypatch):
    def forbid(flags):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(isolation, "_unshare", forbid)
    with pytest.raises(RuntimeError) as caught:
        isolation.isolate()
    message = str(caught.value)
    assert message.startswith(
        "The system must let a process have a network of its own. Received: "
        f"{sys.platform}: Operation not permitted."
    )
    assert "behind a firewall" in message


def test_a_system_without_namespaces_is_told(monkeypatch):
    monkeypatch.setattr(isolation.ctypes, "CDLL", lambda *_, **__: object())
    monkeypatch.delattr(os, "unshare", raising=False)
    with pytest.raises(RuntimeError, match="Function not implemented"):
        isolation.isolate()
