"""Who knows the secret comes in; nobody else disturbs."""

import contextlib
import socket
import threading
import time

import pytest

from tfdp.asynchronous.wire import authentication
from tfdp.asynchronous.wire.authentication import WrongSecret
from tfdp.asynchronous.wire.door import Door
from tfdp.asynchronous.wire.message import Refused
from tfdp.machine import ports

SECRET = "of this job"


class Guests:
    """What a door lets in and says."""

    def __init__(self):
        self.inside, self.lines = [], []
        self.came = threading.Semaphore(0)

    def welcome(self, connected, peer):
        self.inside.append((connected, peer))
        self.came.release()

    def has_come(self):
        return self.came.acquire(timeout=20)

    def has_said(self, words):
        until = time.monotonic() + 20
        while not any(words in line for line in self.lines):
            assert time.monotonic() < until, self.lines
            time.sleep(0.01)
        return [line for line in self.lines if words in line]


@pytest.fixture
def guests():
    guests = Guests()
    yield guests
    for connected, _ in guests.inside:
        connected.close()


@pytest.fixture
def door(guests):
    door = opened(guests)
    yield door
    door.close()


def opened(guests, **kwargs):
    return Door(
        "127.0.0.1:0", SECRET, guests.welcome, say=guests.lines.append, **kwargs
    )


def connected(door):
    return socket.create_connection(ports.split_address(door.address), 10)


def introduced(door, secret=SECRET):
    stranger = connected(door)
    try:
        authentication.introduce(stranger, secret, seconds=10)
    except BaseException:
        stranger.close()
        raise
    return stranger


def test_who_knows_the_secret_comes_in(door, guests):
    with introduced(door) as worker:
        assert guests.has_come()
        inside, peer = guests.inside[0]
        assert peer == f"127.0.0.1:{worker.getsockname()[1]}"
        inside.sendall(b"hello")
        assert worker.recv(5) == b"hello"
    assert guests.lines == []


def test_another_secret_is_refused_and_told(door, guests):
    for _ in range(3):
        with pytest.raises(WrongSecret):
            introduced(door, "of another job")
    lines = guests.has_said("does not know the secret")
    assert lines == [
        "refused a connection from 127.0.0.1: it does not know the secret of "
        "this job."
    ]
    assert guests.inside == []


def test_a_server_that_does_not_know_the_secret_is_noticed():
    def serve(server):
        stranger, _ = server.accept()
        with contextlib.suppress(Refused):
            authentication.admit(stranger, "another", seconds=10)
        stranger.close()

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        with (
            socket.create_connection(server.getsockname()) as worker,
            pytest.raises(WrongSecret),
        ):
            authentication.introduce(worker, SECRET, seconds=10)
        thread.join()


def test_a_server_that_mirrors_proves_nothing():
    def mirror(server):
        stranger, _ = server.accept()
        stranger.sendall(b"tfdp-exchange-1 " + b"a" * 32 + b"\n")
        said = stranger.recv(98, socket.MSG_WAITALL)
        stranger.sendall(said[33:])
        stranger.close()

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=mirror, args=(server,))
        thread.start()
        with (
            socket.create_connection(server.getsockname()) as worker,
            pytest.raises(WrongSecret),
        ):
            authentication.introduce(worker, SECRET, seconds=10)
        thread.join()


def test_what_was_overheard_does_not_let_in(door, guests):
    overheard = []

    class Overheard:
        def __init__(self, inside):
            self.inside = inside

        def __getattr__(self, name):
            return getattr(self.inside, name)

        def sendall(self, text):
            overheard.append(text)
            self.inside.sendall(text)

    with connected(door) as worker:
        authentication.introduce(Overheard(worker), SECRET, seconds=10)
        assert guests.has_come()
    with connected(door) as stranger:
        stranger.sendall(overheard[0])
        stranger.recv(49, socket.MSG_WAITALL)
        assert stranger.recv(65, socket.MSG_WAITALL) == b"0" * 64 + b"\n"
        assert stranger.recv(10) == b""
    guests.has_said("does not know the secret")
    assert len(guests.inside) == 1


@pytest.mark.parametrize(
    "text", [b"GET / HTTP/1.1\r\n\r\n", b"\x80\x04K\x01.", b"x" * 10**6]
)
def test_garbage_is_refused_at_once(door, guests, text):
    with connected(door) as stranger:
        with contextlib.suppress(OSError):
            stranger.sendall(text)
        guests.has_said("it says b")
        with contextlib.suppress(ConnectionResetError):
            stranger.settimeout(10)
            while stranger.recv(100):
                pass
    with introduced(door):
        assert guests.has_come()
    assert max(map(len, guests.lines)) < 160


def test_who_says_nothing_keeps_nobody_out(guests):
    door = opened(guests, seconds=1.0)
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(connected(door)) for _ in range(20)]
        for stranger in silent[:5]:
            stranger.sendall(b"a")
        begin = time.monotonic()
        stack.enter_context(introduced(door))
        assert guests.has_come()
        assert time.monotonic() - begin < 0.9
        assert guests.has_said("it has not said who it is in 1 s")
        for stranger in silent:
            received = b""
            while more := stranger.recv(100):
                received += more
            assert received.startswith(b"tfdp-exchange-1 ")
    door.close()


def test_who_drips_is_refused_in_the_same_time(guests):
    door = opened(guests, seconds=0.5)
    with connected(door) as stranger, contextlib.suppress(OSError):
        begin = time.monotonic()
        while time.monotonic() - begin < 10:
            stranger.sendall(b"a")
            time.sleep(0.05)
    assert time.monotonic() - begin < 9
    guests.has_said("it has not said who it is in 0.5 s")
    door.close()


def test_strangers_are_few_at_a_time(guests):
    door = opened(guests, seconds=60)
    with contextlib.ExitStack() as stack:
        for _ in range(80):
            stack.enter_context(connected(door))
        guests.has_said("too many ask at a time")
        assert len(guests.lines) == 1
    # They are gone, and there is room again.
    until = time.monotonic() + 20
    while not guests.inside and time.monotonic() < until:
        with contextlib.suppress(OSError, Refused):
            introduced(door).close()
    assert guests.has_come()
    door.close()


def test_a_closed_door_lets_nobody_in(guests):
    door = opened(guests)
    door.close()
    with pytest.raises(ConnectionRefusedError):
        connected(door)


def test_there_must_be_a_secret(guests):
    with pytest.raises(ValueError, match="an empty secret"):
        Door("127.0.0.1:0", "", guests.welcome)


def test_what_answers_is_a_server():
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as worker,
    ):
        stranger, _ = server.accept()
        stranger.sendall(b"SSH-2.0-OpenSSH_9\r\n")
        with pytest.raises(Refused, match="SSH-2.0"):
            authentication.introduce(worker, SECRET, seconds=10)
        stranger.close()
