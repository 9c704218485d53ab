"""Ports on loopback: real sockets, held, free and deaf."""

import contextlib
import errno
import os
import socket
import types

import psutil
import pytest

from tfdp.machine import ports


@pytest.fixture
def server():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.fixture
def free_address():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def deaf_address():
    """An address that takes no more connections, and does not say so."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(
            socket.create_server(("127.0.0.1", 0), backlog=0)
        )
        for _ in range(8):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(server.getsockname())
        yield f"127.0.0.1:{server.getsockname()[1]}"


def address_of(server):
    return f"127.0.0.1:{server.getsockname()[1]}"


def test_all_addresses_are_tried(server, free_address, deaf_address):
    addresses = [address_of(server), free_address, deaf_address]
    found = ports.reach(addresses, timeout=0.3)
    assert list(found) == addresses
    listening, free, deaf = found.values()
    assert (listening.is_listening, listening.is_there) == (True, True)
    assert (free.is_listening, free.is_there) == (False, True)
    assert (deaf.is_listening, deaf.is_there) == (False, False)
    assert deaf.failure.startswith("no answer within 0.3 s: the host is down")


def test_there_may_be_no_address():
    assert ports.reach([], timeout=1) == {}


@pytest.mark.parametrize("host", ["nowhere.invalid", "a..b", "x" * 70])
def test_a_name_without_an_address_cannot_be_reached(host):
    (found,) = ports.reach([f"{host}:1"], timeout=1).values()
    assert not found.is_there
    assert found.failure
    assert not ports.is_of_this_machine(host)


def test_a_host_without_a_route_cannot_be_reached(monkeypatch):
    def refuse(address, timeout):
        raise OSError(errno.EHOSTUNREACH, "No route to host")

    monkeypatch.setattr(socket, "create_connection", refuse)
    (found,) = ports.reach(["10.0.0.1:1"], timeout=1).values()
    assert found.failure == "No route to host"


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("a:1", ("a", 1)),
        ("[::1]:80", ("::1", 80)),
        ("1.2.3.4:5", ("1.2.3.4", 5)),
    ],
)
def test_an_address_is_a_host_and_a_port(address, parts):
    assert ports.split_address(address) == parts


def test_addresses_of_this_machine_are_told_from_others():
    assert ports.is_of_this_machine("localhost")
    assert ports.is_of_this_machine("127.0.0.1")
    assert ports.is_of_this_machine("[::1]") == ports.is_of_this_machine("::1")
    # Reserved for documentation.
    assert not ports.is_of_this_machine("203.0.113.1")


def test_the_holder_of_a_port_is_named(server):
    port = server.getsockname()[1]
    assert port in ports.own_ports()
    assert ports.holder(port) == (
        f"{psutil.Process().name()} (process {os.getpid()})"
    )


def test_a_port_that_nobody_holds_has_no_holder(free_address):
    assert ports.holder(ports.split_address(free_address)[1]) == ""


@pytest.mark.parametrize(
    ("host", "address"),
    [("a", "a:1"), ("::1", "[::1]:1"), ("[::1]", "[::1]:1")],
)
def test_a_host_and_a_port_are_an_address(host, address):
    assert ports.joined_address(host, 1) == address


def test_addresses_for_others_are_those_of_interfaces_that_are_up(monkeypatch):
    def address(family, number):
        return types.SimpleNamespace(family=family, address=number)

    found = {
        "lo": [address(socket.AF_INET, "127.0.0.1")],
        "eth0": [
            address(socket.AF_INET, "10.0.0.7"),
            address(socket.AF_INET6, "fe80::1%eth0"),
            address(psutil.AF_LINK, "00:00:00:00:00:00"),
        ],
        "eth1": [address(socket.AF_INET, "10.1.0.7")],
    }
    states = {
        name: types.SimpleNamespace(isup=name != "eth1") for name in found
    }
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: found)
    monkeypatch.setattr(psutil, "net_if_stats", lambda: states)
    assert ports.outside_addresses() == ["10.0.0.7", "fe80::1"]
