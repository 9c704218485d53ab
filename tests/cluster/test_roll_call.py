"""Workers who know one address come there, and learn each other's."""

import concurrent.futures
import contextlib
import json
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from tfdp.cluster import connections, proofs
from tfdp.cluster.cluster import Cluster
from tfdp.cluster.environment import place
from tfdp.cluster.roll_call import Appointment, attend
from tfdp.cluster.roll_call import attendance as attendances
from tfdp.cluster.roll_call.roll import Party, Roll
from tfdp.machine import listening


@pytest.fixture
def address():
    """An address at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def threads():
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        yield pool


def come(address, size=2, *, secret="of the job", timeout=30.0, **options):
    appointment = Appointment(address, size, **options)
    return attend(appointment, secret=secret, timeout=timeout)


def refused(address, *args, timeout=0.5, **options):
    with pytest.raises((TimeoutError, RuntimeError)) as caught:
        come(address, *args, timeout=timeout, **options)
    return str(caught.value)


def place_of(address):
    host, _, port = address.rpartition(":")
    return host, int(port)


def connected(address):
    """Waits until somebody listens."""
    deadline = time.monotonic() + 30
    while True:
        with contextlib.suppress(ConnectionRefusedError):
            return socket.create_connection(place_of(address), 30)
        assert time.monotonic() < deadline
        time.sleep(0.02)


def said(connection):
    with connection.makefile("rb") as lines:
        return json.loads(lines.readline())


def test_ranks_are_kept_whoever_comes_first(address, threads):
    coming = []
    for rank in (2, 0, 1):
        coming.append(threads.submit(come, address, 3, rank=rank))
        time.sleep(0.05)
    found = [each.result() for each in coming]
    assert [seats.first_index for seats in found] == [2, 0, 1]
    assert len({seats.addresses for seats in found}) == 1
    Cluster.of(found[0].addresses, 0)
    for worker in found[0].addresses:
        assert worker.startswith("127.0.0.1:")
        with listening.everywhere(place_of(worker)[1]):
            pass


def test_without_ranks_the_host_is_first_and_then_who_comes(address, threads):
    host = threads.submit(come, address, 4, count=2)
    connected(address).close()
    second = threads.submit(come, address, 4)
    deadline = time.monotonic() + 30
    while not second.running():
        assert time.monotonic() < deadline
    time.sleep(0.3)
    third = come(address, 4)
    assert host.result().first_index == 0
    assert second.result().first_index == 2
    assert third.first_index == 3
    assert third.addresses == host.result().addresses
    assert len(third.addresses) == 4


def test_one_alone_meets_itself(address):
    assert come(address, 3, count=3).first_index == 0


def test_a_host_name_of_this_machine_is_what_others_are_told(threads):
    with socket.create_server(("", 0)) as server:
        address = f"{socket.gethostname()}:{server.getsockname()[1]}"
    ranks = [threads.submit(come, address, rank=rank) for rank in range(2)]
    workers = ranks[0].result().addresses
    assert ranks[1].result().addresses == workers
    # Not loopback, by which another machine would reach itself.
    assert not any(listening.is_loopback(w.rpartition(":")[0]) for w in workers)


def test_who_misses_is_told_by_rank(address, threads):
    guest = threads.submit(refused, address, 4, rank=2, timeout=1.5)
    message = refused(address, 4, rank=0, timeout=1.5)
    assert message.startswith(
        f"All 4 workers must come to {address} within 1.5 seconds. Received: "
    )
    assert "2 of 4, without rank 1, 3." in message
    assert message.endswith(
        "`tfdp launch --start-timeout SECONDS`, or the variable "
        "TFDP_START_TIMEOUT."
    )
    assert "2 of 4, as was told there last." in guest.result()


def test_how_many_miss_is_told_without_ranks(address):
    assert " 2 of 4. Start the others" in refused(address, 4, count=2)


def test_nobody_there_is_told(address):
    assert "nobody who holds the roll call (Connection refused)" in refused(
        address, rank=1
    )
    assert "nobody who holds the roll call (" in refused(
        "no-such-host.invalid:1", rank=1
    )


def test_a_launcher_elsewhere_does_not_hold_it():
    # Of a network for documentation: no machine has it.
    message = refused("192.0.2.1:29500", timeout=0.3)
    assert "nobody who holds the roll call" in message


def test_a_late_host_is_waited_for(address, threads):
    guest = threads.submit(come, address, rank=1)
    time.sleep(0.3)
    assert not guest.done()
    assert come(address, rank=0) == (guest.result().addresses, 0)


def test_who_leaves_before_all_have_come_leaves_its_place(address, threads):
    host = threads.submit(come, address, 3, rank=0)
    key = proofs.key_of("of the job", [])
    with connected(address) as connection:
        introduced(connection, key, 3, 1, ["127.0.0.1:1"])
        assert said(connection) == {"come": 2}
    others = [threads.submit(come, address, 3, rank=rank) for rank in (1, 2)]
    assert "127.0.0.1:1" not in host.result().addresses
    assert [other.result().first_index for other in others] == [1, 2]


def introduced(connection, key, size, rank, addresses):
    """Says what a guest does, and returns the first answer."""
    connection.sendall(b'{"tfdp": 1, "draw": "12"}\n')
    answer = said(connection)
    claims = ("guest", size, "12", answer["draw"], rank, addresses)
    told = {"rank": rank, "addresses": addresses}
    told["proof"] = proofs.proof(key, *claims)
    connection.sendall(json.dumps(told).encode() + b"\n")
    return answer


def test_the_next_attempt_meets_at_the_same_address(address, threads):
    for _ in range(3):
        guest = threads.submit(come, address)
        time.sleep(0.02)
        other = come(address)
        assert {guest.result().first_index, other.first_index} == {0, 1}


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ({"secret": "another"}, {}),
        (
            {"secret": "", "name": "other.py"},
            {"secret": "", "name": "train.py"},
        ),
    ],
    ids=["secret", "name"],
)
def test_a_second_job_at_the_port_is_refused_by_name(
    address, threads, theirs, ours
):
    first = threads.submit(come, address, 3, count=2, **theirs)
    connected(address).close()
    message = refused(address, 2, timeout=30, **ours)
    assert message.startswith(
        f"Workers that meet at an address must be of one job. Received: "
        f"{address}, where another job meets, of 3 workers, or one that was "
        "given another TFDP_JOB_SECRET."
    )
    assert come(address, 3, **theirs).addresses == first.result().addresses


def test_another_number_of_workers_is_refused(address, threads):
    first = threads.submit(come, address, 3, count=2)
    connected(address).close()
    assert refused(address, 4, timeout=30).startswith(
        "All workers of a job must be told the same number of workers. "
        f"Received: 4 here, 3 at {address}."
    )
    come(address, 3)
    first.result()


@pytest.mark.parametrize(
    ("host", "guest", "rule"),
    [
        ({"rank": 0}, {"rank": 1}, "Every worker must have a rank of its own."),
        ({"rank": 0}, {}, "Either all workers have a rank, or none has."),
        ({}, {"rank": 1}, "Either all workers have a rank, or none has."),
        ({}, {"count": 3}, "The job has 3 workers. Received: 3 more, after "),
    ],
)
def test_who_has_no_place_is_told_why(address, threads, host, guest, rule):
    first = threads.submit(come, address, 3, **host)
    connected(address).close()
    ranks = [1, 2] if "rank" in host else [None, None]
    second = threads.submit(come, address, 3, rank=ranks[0])
    time.sleep(0.3)
    assert refused(address, 3, timeout=30, **guest).startswith(rule)
    come(address, 3, rank=ranks[1])
    assert first.result().addresses == second.result().addresses


def test_a_rank_or_an_address_that_cannot_be_has_no_place():
    ranked, unranked = Roll(2, is_ranked=True), Roll(3, is_ranked=False)
    assert "rank 2 of 2." in ranked.enter(Party(("a:1",), 2))
    assert "rank 0 of 2." in ranked.enter(Party(("a:1", "a:2"), 0))
    assert "a:1, a:1 twice." in unranked.enter(Party(("a:1", "a:1")))
    assert unranked.enter(Party(("a:1",))) == ""
    assert "Received: a:1 twice." in unranked.enter(Party(("a:1", "b:1")))
    assert (unranked.come, unranked.is_complete) == (1, False)


def test_of_many_who_miss_the_first_are_named():
    assert (
        Roll(12, is_ranked=True).missing == "0, 1, 2, 3, 4, 5, 6, 7 and 4 more"
    )


GARBAGE = {
    "nothing": b"",
    "http": b"GET / HTTP/1.1\r\n\r\n",
    "pickle": b"\x80\x04\x95(cos\nsystem\n.\n",
    "endless": b"x" * 10**6,
    "brackets": b"[" * 100_000 + b"\n",
    "number": b"1" * 20_000 + b"\n",
    "a list": b"[1]\n",
    "version": b'{"tfdp": 2, "draw": "1"}\n',
    "no draw": b'{"tfdp": 1}\n',
}


def test_strangers_disturb_nobody(address, threads):
    host = threads.submit(come, address, rank=0)
    with contextlib.ExitStack() as stack:
        stack.enter_context(connected(address))
        for text in GARBAGE.values():
            stranger = stack.enter_context(connected(address))
            with contextlib.suppress(OSError):
                stranger.sendall(text)
        for addresses in (["127.0.0.1:1"], ["no address"], [], [1], None):
            liar = stack.enter_context(connected(address))
            introduced(liar, b"another key", 2, 1, addresses)
            assert liar.recv(200) == b""
        assert not host.done()
        assert come(address, rank=1).first_index == 1
    host.result()


@pytest.mark.parametrize("addresses", [["no address"], [], [1], None])
def test_who_proves_itself_needs_an_address_too(address, threads, addresses):
    host = threads.submit(come, address, rank=0)
    key = proofs.key_of("of the job", [])
    with connected(address) as strange:
        introduced(strange, key, 2, 1, addresses)
        assert strange.recv(200) == b""
    come(address, rank=1)
    host.result()


def test_more_strangers_than_can_be_kept_are_sent_away(address, threads):
    host = threads.submit(come, address, rank=0)
    with contextlib.ExitStack() as stack:
        kept = [stack.enter_context(connected(address)) for _ in range(64)]
        time.sleep(0.3)
        with connected(address) as another:
            another.settimeout(5)
            assert another.recv(1) == b""
        for connection in kept:
            connection.close()
    come(address, rank=1)
    host.result()


def test_a_stranger_who_says_nothing_is_let_go(address, threads, monkeypatch):
    monkeypatch.setattr("tfdp.cluster.roll_call.host.STRANGER_SECONDS", 0.2)
    host = threads.submit(come, address, rank=0)
    with connected(address) as silent:
        silent.settimeout(5)
        assert silent.recv(1) == b""
    come(address, rank=1)
    host.result()


@contextlib.contextmanager
def somebody(behave):
    """Someone else who listens, and treats each connection so."""

    def serve():
        with contextlib.suppress(OSError):
            while True:
                connection, _ = server.accept()
                with connection, contextlib.suppress(OSError):
                    behave(connection)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


def saying(text):
    """One that says this, once it has heard something."""

    def behave(connection):
        said(connection)
        connection.sendall(text)

    return behave


def as_host(**answers):
    """One that proves itself, and then says something in one line."""

    def behave(connection):
        key = proofs.key_of("of the job", [])
        asked = said(connection)["draw"]
        proof = proofs.proof(key, "host", 2, asked, "34")
        first = {"size": 2, "draw": "34", "proof": proof}
        connection.sendall(json.dumps(first).encode() + b"\n")
        said(connection)
        connection.sendall(json.dumps(answers).encode() + b"\n")

    return behave


@pytest.mark.parametrize(
    ("behave", "what"),
    [
        (saying(b"\xff\x00 \n"), r"it says '\xff\x00 \n'"),
        (saying(b"half"), "it says 'half'"),
        (saying(b""), "it is gone"),
        (saying(b"x" * 10**8), "it talks without end"),
        (as_host(refused="no", proof="0"), "it does not prove what it says"),
        (
            as_host(first_index=0, addresses=["a:1"], proof="0"),
            "it does not prove what it says",
        ),
        (as_host(come=1), "nobody"),
    ],
    ids=["garbage", "half", "gone", "endless", "refusal", "list", "come"],
)
def test_a_stranger_in_place_of_the_host_is_told(behave, what):
    with somebody(behave) as address:
        message = refused(address, rank=1, timeout=0.5)
    if what == "nobody":
        assert "1 of 2, as was told there last." in message
    else:
        assert f"no roll call is held there: {what}" in message


def test_a_silent_stranger_in_place_of_the_host_is_told(monkeypatch):
    monkeypatch.setattr("tfdp.cluster.roll_call.guest.STRANGER_SECONDS", 0.1)
    with somebody(lambda c: time.sleep(2)) as address:
        message = refused(address, rank=1, timeout=0.5)
    assert "no roll call is held there: it says nothing" in message


def test_a_first_worker_that_cannot_listen_names_who_does(monkeypatch):
    monkeypatch.setattr(attendances, "_HELD_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        message = refused(address, rank=0, timeout=30)
    assert message.startswith(
        "The first worker must be able to listen where all meet. Received: "
        f"{address}: Address already in use, held by "
    )
    assert "MASTER_PORT, or TFDP_PORT" in message


def test_a_port_that_is_held_for_a_moment_is_waited_for(address, threads):
    with socket.create_server(place_of(address)):
        first = threads.submit(come, address, rank=0)
        time.sleep(0.4)
        assert not first.done()
    come(address, rank=1)
    first.result()


WAITS = """
import sys
from tfdp.cluster.roll_call import Appointment, attend
print("waits", flush=True)
attend(Appointment(sys.argv[1], 2, int(sys.argv[2])), secret="", timeout=60)
"""


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_waits_can_be_ended(address, rank, number):
    with subprocess.Popen(
        [sys.executable, "-c", WAITS, address, str(rank)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        restore_signals=True,
    ) as process:
        assert process.stdout.readline() == "waits\n"
        if rank == 0:
            connected(address).close()
        else:
            time.sleep(0.3)
        process.send_signal(number)
        assert process.wait(30) == -number


def test_a_process_meets_the_others_once(address, threads, monkeypatch):
    host, port = place_of(address)
    told = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": host}
    for name, value in {**told, "MASTER_PORT": str(port)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TFDP_JOB_SECRET", "of the job")
    monkeypatch.delenv("TF_CONFIG", raising=False)
    first = threads.submit(come, address, rank=0, name=", ", source="anybody")
    found = place()
    assert place() is found
    assert found.jobs["worker"] == first.result().addresses
    assert Cluster.from_environment().index == 1


def test_the_reason_of_a_connection_that_fails_is_the_systems():
    assert connections.reason(OSError("words")) == "words"
