"""Workers wait for each other, with a deadline, and say for whom."""

import contextlib
import re
import socket
import threading
import time

import pytest

from tfdp.cluster.cluster import Cluster
from tfdp.cluster.rendezvous import meet, unreachable


def listening(host="127.0.0.1"):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, 0), family=family)


def listening_at(address):
    return socket.create_server(("", int(address.rpartition(":")[2])))


def address_of(server):
    host, port, *_ = server.getsockname()
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@pytest.fixture
def addresses():
    """Four addresses at which nobody listens."""
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(listening()) for _ in range(4)]
        return [address_of(server) for server in servers]


@pytest.fixture
def peer():
    """The address of a peer that is there already."""
    with listening() as server:
        yield address_of(server)


@contextlib.contextmanager
def running(cluster):
    """A worker in a thread, which then listens as TensorFlow does."""
    errors, is_over = [], threading.Event()

    def work():
        try:
            meet(cluster, timeout=60)
        except (TimeoutError, RuntimeError) as error:
            errors.append(error)
        with listening_at(cluster.address):
            has_met.set()
            is_over.wait(60)

    has_met = threading.Event()
    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield has_met
    finally:
        has_met.wait(60)
        is_over.set()
        thread.join()
    assert errors == []


def test_all_workers_find_each_other(addresses):
    with contextlib.ExitStack() as stack:
        workers = [
            stack.enter_context(running(Cluster.of(addresses, index)))
            for index in range(4)
        ]
        assert all(has_met.wait(60) for has_met in workers)


def test_a_late_peer_is_waited_for(addresses):
    late = Cluster.of(addresses[:2], 1)
    with running(Cluster.of(addresses[:2], 0)) as has_met:
        deadline = time.monotonic() + 60
        while unreachable(late):
            assert time.monotonic() < deadline
        assert not has_met.is_set()
        meet(late, timeout=60)
        with listening_at(addresses[1]):
            assert has_met.wait(60)


def test_missing_peers_are_named_and_present_ones_not(addresses, peer):
    here, *missing = addresses[:3]
    cluster = Cluster.of([missing[0], here, peer, missing[1]], 1)
    with pytest.raises(TimeoutError) as caught:
        meet(cluster, timeout=0.1)
    message = str(caught.value)
    assert message.startswith(
        "Every worker must be there within 0.1 seconds of the start. "
        "Received: no answer since "
    )
    assert re.search(r"since \d\d:\d\d:\d\d from worker 0 at ", message)
    assert f"worker 0 at {missing[0]} (Connection refused)" in message
    assert f"worker 3 at {missing[1]} (Connection refused)" in message
    assert "worker 1" not in message
    assert "worker 2" not in message
    assert "--start-timeout SECONDS" in message
    assert "TFDP_START_TIMEOUT" in message


def test_a_host_without_an_address_is_named(addresses):
    cluster = Cluster.of([addresses[0], "no-such-host.invalid:1"], 0)
    with pytest.raises(TimeoutError, match=r"worker 1 at no-such-host.inv"):
        meet(cluster, timeout=0.1)


def test_the_chief_is_counted_before_the_workers(addresses):
    jobs = {"worker": [addresses[0]], "chief": [addresses[1]]}
    with pytest.raises(TimeoutError, match=f"worker 0 at {addresses[1]}"):
        meet(Cluster(jobs, "worker", 0), timeout=0.1)


def test_an_evaluator_is_not_waited_for(addresses):
    jobs = {"worker": [addresses[0]], "evaluator": [addresses[1]]}
    meet(Cluster(jobs, "worker", 0), timeout=0.1)


def test_one_worker_waits_for_nobody(addresses):
    meet(Cluster.of(addresses[:1], 0), timeout=0.1)


def test_the_port_is_free_again_afterwards(addresses, peer):
    meet(Cluster.of([addresses[0], peer], 0), timeout=60)
    listening_at(addresses[0]).close()


def test_a_port_that_another_process_holds_is_refused(peer, monkeypatch):
    monkeypatch.setattr("tfdp.machine.ports.own_ports", set)
    with pytest.raises(RuntimeError, match="listen on its own port"):
        meet(Cluster.of([peer, "127.0.0.1:1"], 0), timeout=0.1)


def test_a_second_strategy_of_a_process_meets_the_others_too(peer):
    """TensorFlow goes on to listen on the port for the first."""
    with listening() as tensorflows:
        meet(Cluster.of([address_of(tensorflows), peer], 0), timeout=60)


def test_ipv6_addresses_are_met(addresses):
    try:
        server = listening("::1")
    except OSError:
        pytest.skip("no IPv6 here")
    with server:
        meet(Cluster.of([addresses[0], address_of(server)], 0), timeout=60)


def test_unreachable_workers_are_those_that_do_not_listen(addresses, peer):
    cluster = Cluster.of([addresses[0], peer, addresses[1]], 0)
    assert unreachable(cluster) == [f"worker 2 ({addresses[1]})"]


def test_nobody_is_unreachable_for_a_worker_alone(addresses):
    assert unreachable(Cluster.of(addresses[:1], 0)) == []
