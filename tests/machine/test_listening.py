"""Sockets listen where the address says, and no wider than is needed."""

import contextlib
import errno
import socket

import pytest

from tfdp.machine import listening


def hears(host, port):
    """Whether something listens at this address of the machine."""
    with contextlib.suppress(OSError):
        socket.create_connection((host, port), 1).close()
        return True
    return False


@pytest.fixture
def ipv6():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")


@contextlib.contextmanager
def listened(address, *, is_local):
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(server).getsockname()[:2]
            for server in listening.listeners(address, is_local=is_local)
        ]


def test_a_local_worker_listens_on_its_own_address():
    with listened("127.0.0.1:0", is_local=True) as ((host, port),):
        assert host == "127.0.0.1"
        assert hears("127.0.0.1", port)
        assert not hears("127.0.0.2", port)


def test_a_local_name_listens_wherever_it_leads():
    with listening.everywhere(0) as free:
        port = free.getsockname()[1]
    with listened(f"localhost:{port}", is_local=True) as places:
        assert {host for host, _ in places} <= {"127.0.0.1", "::1"}
        assert hears("localhost", port)


def test_ipv6_is_listened_on_alone(ipv6):
    with listened("[::1]:0", is_local=True) as ((host, port),):
        assert host == "::1"
        assert hears("::1", port)
        assert not hears("127.0.0.1", port)


@pytest.mark.parametrize(
    ("address", "is_local"),
    [
        ("somewhere.invalid:0", False),
        ("localhost:0", False),
        ("0.0.0.0:0", False),
        # Reserved for documentation; as of a machine behind a router.
        ("203.0.113.1:0", False),
        ("[2001:db8::1]:0", False),
    ],
)
def test_others_listen_everywhere(address, is_local, ipv6):
    with listened(address, is_local=is_local) as ((_, port),):
        assert hears("127.0.0.1", port)
        assert hears("::1", port)


def test_a_port_that_is_taken_is_an_error():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(OSError, match="in use") as caught:
            listening.listeners(address, is_local=True)
        with pytest.raises(OSError, match="in use"):
            listening.everywhere(server.getsockname()[1])
    assert caught.value.errno == errno.EADDRINUSE


def test_a_machine_without_ipv6_listens_on_what_it_has(monkeypatch):
    real = socket.socket

    def only_ipv4(family, kind):
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "not supported")
        return real(family, kind)

    monkeypatch.setattr(socket, "socket", only_ipv4)
    with listening.everywhere(0) as server:
        assert server.family == socket.AF_INET


def test_a_bound_port_is_not_heard():
    with listening.everywhere(0) as bound:
        assert not hears("127.0.0.1", bound.getsockname()[1])


def test_only_the_address_is_listened_on():
    (server,) = listening.at("127.0.0.1:0")
    with server:
        assert server.getsockname()[0] == "127.0.0.1"
    with pytest.raises(OSError, match="192.0.2.1:80 is not an address of this"):
        listening.at("192.0.2.1:80")


def test_spare_ports_are_not_those_that_connections_get():
    found = listening.spare(5)
    assert len(set(found)) == 5
    with open("/proc/sys/net/ipv4/ip_local_port_range") as file:
        assert max(found) < int(file.read().split()[0])
    assert not any(hears("127.0.0.1", port) for port in found)


def test_what_is_listened_on_is_not_spare(monkeypatch):
    with listening.everywhere(0) as server:
        server.listen()
        taken = server.getsockname()[1]
        monkeypatch.setattr(listening, "_LOWEST", taken)
        monkeypatch.setattr(
            listening, "_begin_of_the_systems", lambda: taken + 2
        )
        # The one beside it, and then the system's.
        found = listening.spare(3)
        assert taken not in found
        assert len(set(found)) == 3
