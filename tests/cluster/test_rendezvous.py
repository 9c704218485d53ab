"""Workers wait for each other, with a deadline, and say for whom."""

import contextlib
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import psutil
import pytest

from tfdp.cluster.cluster import Cluster
from tfdp.cluster.identity import Identity
from tfdp.cluster.rendezvous import meet, unreachable, wait_for_leader
from tfdp.machine import listening as sockets
from tfdp.machine import ports


def listening(host="127.0.0.1"):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, 0), family=family)


def listening_at(address):
    server = sockets.everywhere(int(address.rpartition(":")[2]))
    server.listen()
    return server


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
    """The address of somebody who listens."""
    with listening() as server:
        yield address_of(server)


@pytest.fixture(autouse=True)
def _no_secret(monkeypatch):
    monkeypatch.delenv("TFDP_JOB_SECRET", raising=False)


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


def test_missing_peers_are_named_and_present_ones_not(addresses):
    cluster = [Cluster.of(addresses, index) for index in range(4)]
    other = threading.Thread(target=missed, args=[cluster[2], 3])
    other.start()
    with pytest.raises(TimeoutError) as caught:
        meet(cluster[1], timeout=1.5)
    other.join()
    message = str(caught.value)
    assert message.startswith(
        "Every worker must be there within 1.5 seconds of the start. "
        "Received: no answer since "
    )
    assert re.search(r"since \d\d:\d\d:\d\d from worker 0 at ", message)
    assert f"worker 0 at {addresses[0]} (Connection refused)" in message
    assert f"worker 3 at {addresses[3]} (Connection refused)" in message
    assert "worker 1" not in message
    assert "worker 2" not in message
    assert "--start-timeout SECONDS" in message
    assert "TFDP_START_TIMEOUT" in message


def missed(cluster, timeout):
    """Returns what the error says of the workers that were not met."""
    with pytest.raises(TimeoutError) as caught:
        meet(cluster, timeout=timeout)
    return str(caught.value)


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


def test_the_port_is_free_again_afterwards(addresses):
    with running(Cluster.of(addresses[:2], 1)):
        meet(Cluster.of(addresses[:2], 0), timeout=60)
    listening_at(addresses[0]).close()


def test_a_port_that_another_process_holds_is_refused(peer, monkeypatch):
    monkeypatch.setattr("tfdp.machine.ports.own_ports", set)
    with pytest.raises(RuntimeError, match="listen on its own port"):
        meet(Cluster.of([peer, "127.0.0.1:1"], 0), timeout=0.1)


def test_a_second_strategy_of_a_process_meets_the_others_too(peer):
    """TensorFlow goes on to listen on the port for the first."""
    with listening() as tensorflows:
        meet(Cluster.of([address_of(tensorflows), peer], 0), timeout=60)


@pytest.fixture
def of_ipv6():
    """Two addresses of IPv6 at which nobody listens."""
    try:
        servers = [listening("::1") for _ in range(2)]
    except OSError:
        pytest.skip("no IPv6 here")
    with servers[0], servers[1]:
        return [address_of(server) for server in servers]


def test_ipv6_addresses_are_met(of_ipv6):
    with running(Cluster.of(of_ipv6, 1)):
        meet(Cluster.of(of_ipv6, 0), timeout=60)


def test_addresses_of_both_kinds_are_met(addresses, of_ipv6):
    mixed = [
        addresses[0],
        of_ipv6[0],
        addresses[1].replace("127.0.0.1", "localhost"),
    ]
    with running(Cluster.of(mixed, 1)), running(Cluster.of(mixed, 2)):
        meet(Cluster.of(mixed, 0), timeout=60)


def test_unreachable_workers_are_those_that_do_not_listen(addresses, peer):
    cluster = Cluster.of([addresses[0], peer, addresses[1]], 0)
    assert unreachable(cluster) == [f"worker 2 ({addresses[1]})"]


def test_nobody_is_unreachable_for_a_worker_alone(addresses):
    assert unreachable(Cluster.of(addresses[:1], 0)) == []


@contextlib.contextmanager
def somebody(behave):
    """Someone who listens and treats each connection so; gives the address."""

    def serve():
        with contextlib.suppress(OSError):
            while True:
                connection, _ = server.accept()
                kept.append(connection)
                threading.Thread(target=act, args=[connection]).start()

    def act(connection):
        with contextlib.suppress(OSError):
            behave(connection)

    kept = []
    with listening() as server:
        threading.Thread(target=serve, daemon=True).start()
        yield address_of(server)
        server.shutdown(socket.SHUT_RDWR)
    for connection in kept:
        connection.close()


def endlessly(connection):
    while True:
        connection.sendall(b"tfdp1 answer " * 1000)


def drop_by_drop(connection):
    for byte in b"tfdp1 answer 1 2" * 1000:
        connection.sendall(bytes([byte]))
        time.sleep(0.05)


def as_http(connection):
    connection.recv(100)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    connection.close()


BEHAVIOUR = {
    "silent": (lambda c: time.sleep(5), "it says nothing"),
    "drops": (drop_by_drop, "it says nothing"),
    "closes": (lambda c: c.close(), "it closes the connection"),
    "garbage": (lambda c: c.sendall(b"\xff\x00 \n"), r"it says '\xff\x00 \n'"),
    "pickle": (
        lambda c: c.sendall(b"\x80\x04\x95(cos\nsystem\n"),
        r"it says '\x80\x04\x95(cos\nsystem\n'",
    ),
    "endless": (endlessly, "… and goes on"),
    "http": (as_http, r"it says 'HTTP/1.1 400 Bad Request\r\n\r\n'"),
    "grpc": (
        lambda c: c.sendall(bytes(5) + b"\x04"),
        r"it says '\x00\x00\x00\x00\x00\x04'",
    ),
    "other words": (
        lambda c: c.sendall(b"tfdp1 answer 1\n"),
        r"it says 'tfdp1 answer 1\n'",
    ),
    "a claim": (
        lambda c: c.sendall(b"tfdp1 answer 1 2 0 0\n"),
        "it is worker 1 of another job, or was given another cluster or "
        "TFDP_JOB_SECRET",
    ),
}


@pytest.mark.parametrize("name", BEHAVIOUR)
def test_a_stranger_at_the_port_of_a_peer_is_named(addresses, name):
    behave, what = BEHAVIOUR[name]
    with somebody(behave) as address:
        begin = time.monotonic()
        message = missed(Cluster.of([addresses[0], address], 0), 0.8)
    assert time.monotonic() - begin < 20
    assert (
        f"worker 1 at {address} (address answered, but is not worker 1 of this "
        "job: "
    ) in message
    assert what in message


def test_a_worker_of_another_job_is_named(addresses):
    theirs = Cluster.of([addresses[2], addresses[1]], 1)
    other = threading.Thread(target=missed, args=[theirs, 2.5])
    other.start()
    message = missed(Cluster.of(addresses[:2], 0), 1.5)
    other.join()
    assert (
        "is not worker 1 of this job: it is worker 1 of another job" in message
    )


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("theirs", "what"),
    [
        (("a", "b", "c"), "it is worker 1 of a job of 3"),
        (("b", "a"), "it is worker 0 of this job"),
    ],
)
def test_another_place_in_the_job_is_named(
    addresses, theirs, what, monkeypatch
):
    monkeypatch.setenv("TFDP_JOB_SECRET", "one for all")
    a, b, c = addresses[:3]
    mixed = [{"a": a, "b": b, "c": c}[name] for name in theirs]
    cluster = Cluster.of(mixed, mixed.index(b))
    other = threading.Thread(target=missed, args=[cluster, 2.5])
    other.start()
    message = missed(Cluster.of([a, b], 0), 1.5)
    other.join()
    assert f"is not worker 1 of this job: {what}" in message


def test_a_secret_may_stand_for_the_names_of_the_cluster(
    addresses, monkeypatch
):
    monkeypatch.setenv("TFDP_JOB_SECRET", "one for all")
    by_name = [addresses[0].replace("127.0.0.1", "localhost"), addresses[1]]
    with running(Cluster.of(by_name, 1)):
        meet(Cluster.of(addresses[:2], 0), timeout=60)


def test_who_is_found_but_does_not_find_us_is_named(addresses):
    """As where a firewall lets connections pass one way."""
    cluster = Cluster.of(addresses[:2], 1)

    def answers(connection):
        me = Identity.of(cluster)
        ask = connection.recv(200).split()
        proof = me.proof("answer", "1", 0, ask[3].decode(), "7")
        connection.sendall(f"tfdp1 answer 1 2 7 {proof}\n".encode())
        connection.recv(200)
        connection.sendall(b"tfdp1 met\n")
        connection.close()

    with socket.create_server(("127.0.0.1", int(addresses[1][10:]))) as server:
        thread = threading.Thread(target=lambda: answers(server.accept()[0]))
        thread.start()
        message = missed(Cluster.of(addresses[:2], 0), 1)
        thread.join()
    assert (
        f"worker 1 at {addresses[1]} (is there, but does not reach this one at "
        f"{addresses[0]})"
    ) in message


def test_strangers_who_knock_keep_nobody_from_meeting(addresses):
    cluster = [Cluster.of(addresses[:2], index) for index in range(2)]
    with contextlib.ExitStack() as stack, running(cluster[0]) as has_met:
        while not (knocked := connected(addresses[0])):
            time.sleep(0.05)
        stack.enter_context(knocked)
        for text in (
            b"",
            b"GET / HTTP/1.1\r\n\r\n",
            b"x" * 10**6,
            b"tfdp1 ask",
        ):
            stranger = stack.enter_context(connected(addresses[0]))
            with contextlib.suppress(OSError):
                stranger.sendall(text)
        liar = stack.enter_context(connected(addresses[0]))
        liar.sendall(b"tfdp1 ask 1 0\n")
        assert liar.recv(200).startswith(b"tfdp1 answer 0 2 ")
        liar.sendall(b"tfdp1 confirm 0\n")
        assert liar.recv(200) == b""
        assert not has_met.is_set()
        meet(cluster[1], timeout=60)
        with listening_at(addresses[1]):
            assert has_met.wait(60)


def connected(address):
    host, _, port = address.rpartition(":")
    with contextlib.suppress(ConnectionRefusedError):
        return socket.create_connection((host, int(port)))


def test_local_workers_listen_on_loopback_alone(addresses):
    with running(Cluster.of(addresses[:2], 0)) as has_met:
        while not (knocked := connected(addresses[0])):
            time.sleep(0.05)
        knocked.close()
        port = int(addresses[0].rpartition(":")[2])
        listens = {
            c.laddr.ip
            for c in psutil.Process().net_connections("tcp")
            if c.status == psutil.CONN_LISTEN and c.laddr.port == port
        }
        assert listens == {"127.0.0.1"}
        meet(Cluster.of(addresses[:2], 1), timeout=60)
        with listening_at(addresses[1]):
            assert has_met.wait(60)


WAITS = """
import sys
from tfdp.cluster import Cluster, meet
print("waits", flush=True)
meet(Cluster.of(sys.argv[1:], 0), timeout=60)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_worker_that_waits_can_be_ended(addresses, number):
    with subprocess.Popen(
        [sys.executable, "-c", WAITS, *addresses],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        restore_signals=True,
    ) as process:
        assert process.stdout.readline() == "waits\n"
        while not (knocked := connected(addresses[0])):
            time.sleep(0.05)
        knocked.close()
        process.send_signal(number)
        begin = time.monotonic()
        assert process.wait(30) == -number
    assert time.monotonic() - begin < 20


def test_who_connects_to_the_leader_waits_until_it_speaks(addresses):
    cluster = Cluster.of(addresses, 1)
    said = []

    def lead(server):
        # As a meeting that ends, and TensorFlow after it.
        for words in (b"", b"hello"):
            connection, _ = server.accept()
            said.append(words)
            connection.sendall(words)
            connection.close()

    with socket.create_server(ports.split_address(addresses[0])) as server:
        thread = threading.Thread(target=lead, args=(server,))
        thread.start()
        wait_for_leader(cluster, seconds=60)
        thread.join(60)
    assert said == [b"", b"hello"]


def test_nobody_waits_for_a_leader_that_does_not_come(addresses):
    begin = time.monotonic()
    wait_for_leader(Cluster.of(addresses, 1), seconds=0.1)
    assert 0.1 <= time.monotonic() - begin < 10
    wait_for_leader(Cluster.of(addresses, 0), seconds=1e6)
