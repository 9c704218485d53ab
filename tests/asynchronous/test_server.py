"""A server that is a process, and workers that are; strangers, and deaths."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

import exchanging
import keras
import numpy as np
import psutil
import pytest
from places import SHARED

from tfdp.asynchronous.description import Description
from tfdp.asynchronous.exchange import Exchange
from tfdp.asynchronous.serving.server_process import ServerProcess
from tfdp.asynchronous.serving.server_settings import Settings
from tfdp.asynchronous.session import ServerLost
from tfdp.asynchronous.wire import authentication
from tfdp.asynchronous.wire.connection import Connection, Ended
from tfdp.asynchronous.wire.door import Door
from tfdp.asynchronous.wire.message import Message
from tfdp.machine import ports

SECRET = "of this job"


def sgd():
    return keras.optimizers.SGD(0.5)


def connected(address, secret=SECRET):
    """A peer that knows the secret, and may say what it likes."""
    peer = socket.create_connection(ports.split_address(address), 10)
    authentication.introduce(peer, secret, seconds=10)
    connection = Connection(peer, 10)
    connection.most_bytes = 2**30
    return connection


def join(worker, variables):
    fields = Description.of(variables, sgd()).fields
    return Message("join", {"worker": worker, "model": fields, "question": 0})


@contextlib.contextmanager
def undisturbed(chief, gradients):
    """Checks that a worker trains on while others do their worst."""
    is_over, steps, failures = threading.Event(), [0], []

    def train():
        try:
            while not is_over.is_set():
                begin = time.monotonic()
                chief.read()
                chief.update(gradients, step=steps[0])
                steps[0] += 1
                assert time.monotonic() - begin < 5
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=train)
    thread.start()
    try:
        yield
        before = steps[0]
        until = time.monotonic() + 20
        while steps[0] < before + 5 and time.monotonic() < until:
            time.sleep(0.01)
    finally:
        is_over.set()
        thread.join(30)
    assert not failures
    assert steps[0] >= before + 5
    assert chief.statistics()["version"] == steps[0]


def wait_for(served, words):
    until = time.monotonic() + 20
    while not (found := [line for line in served.lines if words in line]):
        assert time.monotonic() < until, served.lines
        time.sleep(0.01)
    return found


def test_strangers_disturb_nobody(serving, variables, gradients):
    served = serving(2, 1)
    chief = served.joined(0, variables, sgd())
    address = ports.split_address(served.server.address)
    with undisturbed(chief, gradients), contextlib.ExitStack() as stack:
        for text in (
            b"GET / HTTP/1.1\r\n\r\n",
            os.urandom(1000),
            b"\xff" * 10**6,
            b"",
            b"a",
            struct.pack(">4sIQ", b"tfa1", 2**32 - 1, 2**63),
        ):
            for _ in range(3):
                stranger = socket.create_connection(address, 10)
                stack.enter_context(stranger)
                with contextlib.suppress(OSError):
                    stranger.sendall(text)
        with pytest.raises(ValueError, match="must know the same secret"):
            Exchange(served.server.address, "of another", worker=1)
        wait_for(served, "does not know the secret")
        wait_for(served, "it says b'GET / HTTP")
    assert len(served.lines) == len(set(served.lines))
    assert max(map(len, served.lines)) < 200


@pytest.mark.parametrize(
    ("messages", "why"),
    [
        ([Message("read", {"fit": 0})], "it asks for 'read' before it has joi"),
        ([Message("__init__", {})], "it asks for '__init__', and may not now"),
        ([Message("join", {"worker": -1})], "it joins as worker '-1'"),
        ([Message("join", {"worker": "1"})], "it joins as worker '1'"),
        ([Message("join", {"worker": 1})], "'model'"),
        (
            [Message("join", {"worker": 1, "model": {}})],
            "must describe th",
        ),
        (
            [Message("update", {}, [np.zeros(10**5)])],
            "arrays of 800000 bytes, and 0 are the most here",
        ),
    ],
)
def test_who_does_not_join_is_refused(
    serving, variables, gradients, messages, why
):
    served = serving(2, 1)
    chief = served.joined(0, variables, sgd())
    with undisturbed(chief, gradients):
        with contextlib.closing(connected(served.server.address)) as peer:
            for message in messages:
                peer.send(message)
            with pytest.raises(Ended):
                peer.receive()
        (line,) = wait_for(served, why)
    assert line.startswith("closed a connection from 127.0.0.1:")


def test_more_than_the_model_takes_is_refused(serving, variables, gradients):
    served = serving(2, 1)
    chief = served.joined(0, variables, sgd())
    with undisturbed(chief, gradients):
        with contextlib.closing(connected(served.server.address)) as peer:
            peer.send(join(1, variables))
            assert peer.receive().kind == "answer"
            with contextlib.suppress(Ended):
                peer.send(Message("update", {}, [np.zeros(2**20)]))
            with pytest.raises(Ended):
                peer.receive()
        wait_for(served, "worker 1 at 127.0.0.1")
        wait_for(served, "it announces arrays of 8388608 bytes, and")


def test_a_worker_that_joins_twice_is_lost(serving, variables, gradients):
    served = serving(2, 1)
    chief = served.joined(0, variables, sgd())
    with undisturbed(chief, gradients):
        with contextlib.closing(connected(served.server.address)) as peer:
            peer.send(join(1, variables))
            assert peer.receive().kind == "answer"
            peer.send(join(1, variables))
            with pytest.raises(Ended):
                peer.receive()
        wait_for(served, "it joins as worker '1'")


def test_what_a_message_leaves_out_is_told(serving, variables):
    served = serving(2, 1)
    served.joined(0, variables, sgd())
    with contextlib.closing(connected(served.server.address)) as peer:
        peer.send(join(1, variables))
        peer.receive()
        peer.send(Message("take", {"fit": 0, "question": 5}))
        answer = peer.receive()
        assert (answer.kind, answer.fields["question"]) == ("error", 5)
        assert answer.fields["text"] == "It must say 'epoch'."
        peer.send(Message("pulse", {}))
        assert peer.receive() == Message("pulse", {}, [])


def test_a_worker_that_hangs_is_lost(serving, threads, variables, gradients):
    served = serving(2, 0, heartbeat_timeout=0.5)
    chief = served.exchange(0, heartbeat_timeout=0.5)
    chief.join(Description.of(variables, sgd()), [v.numpy() for v in variables])
    chief.take(0)
    with contextlib.closing(connected(served.server.address)) as peer:
        peer.send(join(1, variables))
        assert peer.receive().kind == "answer"
        model = join(1, variables).fields["model"]
        peer.send(Message("begin", {"model": model, "fit": 0, "opens": True}))
        assert peer.receive().kind == "answer"
        peer.send(Message("read", {"fit": 0, "question": 1}))
        assert peer.receive().fields["read"] == 1
        begin = time.monotonic()
        # It says nothing any more, and reads nothing.
        assert chief.read().version == 0
        assert 0.3 < time.monotonic() - begin < 5
        wait_for(served, "is lost: nothing came or went for 0.5 s")


def test_a_server_that_hangs_is_noticed(variables):
    def welcome(connected, peer):
        inside.append(connected)

    inside = []
    door = Door("127.0.0.1:0", SECRET, welcome)
    exchange = Exchange(door.address, SECRET, worker=1, heartbeat_timeout=0.3)
    begin = time.monotonic()
    with pytest.raises(ServerLost, match="nothing came or went for 0.3 s"):
        exchange.read()
    assert time.monotonic() - begin < 5
    exchange.close()
    door.close()
    for each in inside:
        each.close()


def test_no_server_is_told():
    begin = time.monotonic()
    with pytest.raises(ServerLost, match="none at 127.0.0.1:1 in 0.5 s: Conn"):
        Exchange("127.0.0.1:1", SECRET, worker=1, start_timeout=0.5)
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"num_workers": 0}, "num_workers=0"),
        ({"heartbeat_timeout": 0}, "heartbeat_timeout=0"),
        ({"start_timeout": -1.0}, "start_timeout=-1.0"),
    ],
)
def test_settings_are_checked(changed, words):
    given = {"address": "", "secret": "", "num_workers": 1, "max_staleness": 0}
    with pytest.raises(ValueError, match=words):
        Settings(**{**given, **changed})


class Processes:
    """A server and workers, each a process."""

    def __init__(self, stack, bound, workers, *, count, **task):
        self.stack, self.count = stack, count
        self.server = stack.enter_context(
            ServerProcess(
                Settings(
                    "127.0.0.1:0",
                    SECRET,
                    workers,
                    bound,
                    heartbeat_timeout=task.get("heartbeat_timeout", 5.0),
                )
            )
        )
        self.task = {"count": count, "secret": SECRET, **task}

    def worker(self, index, **task):
        process = subprocess.Popen(
            [sys.executable, str(SHARED / "exchanging.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=pathlib.Path(__file__).parents[2],
        )
        self.stack.callback(end, process)
        address = self.server.address()
        task = {**self.task, **task, "worker": index, "address": address}
        print(json.dumps(task), file=process.stdin, flush=True)
        return process


def end(process):
    process.kill()
    for stream in (process.stdin, process.stdout, process.stderr):
        with contextlib.suppress(OSError):
            stream.close()
    process.wait()


@pytest.fixture
def processes():
    with contextlib.ExitStack() as stack:
        yield lambda *args, **kwargs: Processes(stack, *args, **kwargs)


@pytest.mark.long
def test_a_killed_process_and_one_that_comes_back(processes):
    count, bound, optimizer = 9, 2, "Adam"
    running = processes(
        bound, 3, count=count, optimizer=optimizer, epochs=3, seconds=0.1
    )
    loop = exchanging.Loop(count, optimizer)
    chief = Exchange(running.server.address(), SECRET, worker=0)
    killed = running.worker(1, dies_at=2)
    other = running.worker(2)
    weights = []

    def before_update(done):
        # Until the others have started, or again, nobody is fast.
        time.sleep(0.05)
        expected = {2} if killed.poll() is None and done else {1, 2}
        while not expected <= set(chief.statistics()["living"]):
            time.sleep(0.05)

    def train():
        loop.before_update = before_update
        weights.append(loop.run(chief, 3))

    thread = threading.Thread(target=train)
    thread.start()
    assert killed.wait(120) == -signal.SIGKILL
    back = running.worker(1)
    thread.join(120)
    assert not thread.is_alive()
    told = [json.loads(p.stdout.readline())["weights"] for p in (other, back)]
    log = chief.log()
    assert {update.worker for update in log} == {0, 1, 2}
    assert sorted(u.step for u in log) == list(range(3 * count))
    assert max(u.staleness for u in log) <= bound
    again = exchanging.replayed(log, count, optimizer)[-1]
    for ours, theirs, *of_others in zip(weights[0], again, *told, strict=True):
        np.testing.assert_array_equal(ours, theirs)
        for value in of_others:
            np.testing.assert_array_equal(ours, np.array(value, "float32"))
    chief.close()
    assert other.wait(20) == back.wait(20) == 0


@pytest.fixture
def server_process():
    with ServerProcess(Settings("127.0.0.1:0", SECRET, 2, 1)) as server:
        yield server


def test_a_server_process_keeps_its_secret_and_its_address(server_process):
    address = server_process.address()
    process = psutil.Process(server_process.pid)
    assert SECRET not in " ".join(process.cmdline())
    assert SECRET not in str(process.environ())
    listens = [
        c.laddr
        for c in process.net_connections("tcp")
        if c.status == psutil.CONN_LISTEN
    ]
    assert [f"{a.ip}:{a.port}" for a in listens] == [address]
    # Signals are for the chief.
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    with connectable(address):
        pass
    server_process.close()
    assert not process.is_running()


@contextlib.contextmanager
def connectable(address):
    peer = connected(address)
    try:
        yield peer
    finally:
        peer.close()


def test_a_killed_server_is_noticed_at_once(
    server_process, threads, variables, gradients
):
    address = server_process.address()
    description = Description.of(variables, sgd())
    values = [v.numpy() for v in variables]
    exchanges = [Exchange(address, SECRET, worker=w) for w in range(2)]
    for exchange in exchanges:
        exchange.join(description, values)
    taking = threads.submit(exchanges[1].take, 0)
    os.kill(server_process.pid, signal.SIGKILL)
    begin = time.monotonic()
    with pytest.raises(ServerLost, match="closed the connection|reset by peer"):
        taking.result(10)
    with pytest.raises(ServerLost, match=f"lost the server at {address}"):
        exchanges[0].update(gradients, step=0)
    assert time.monotonic() - begin < 5
    for exchange in exchanges:
        exchange.close()


CHIEF = """
import sys, time
from tfdp.asynchronous.serving.server_settings import Settings
from tfdp.asynchronous.serving.server_process import ServerProcess
server = ServerProcess(Settings("127.0.0.1:0", "of this job", 2, 1))
print(server.pid, server.address(), flush=True)
time.sleep(600)
"""


def test_a_server_ends_with_its_chief(threads):
    chief = subprocess.Popen(
        [sys.executable, "-c", CHIEF], stdout=subprocess.PIPE, text=True
    )
    pid, address = chief.stdout.readline().split()
    server = psutil.Process(int(pid))
    other = Exchange(address, SECRET, worker=1)
    taking = threads.submit(other.statistics)
    waiting = threads.submit(other.join, Description((), (), {}, "float32"), [])
    with pytest.raises(ServerLost):
        taking.result(10)
    other.close()
    with pytest.raises(ServerLost):
        waiting.result(10)
    other = Exchange(address, SECRET, worker=1)
    waiting = threads.submit(other.join, Description((), (), {}), [])
    time.sleep(0.5)
    begin = time.monotonic()
    chief.kill()
    with pytest.raises(ServerLost, match="the chief's process has ended"):
        waiting.result(10)
    server.wait(5)
    assert time.monotonic() - begin < 5
    chief.wait()
    chief.stdout.close()
    other.close()


@pytest.mark.long
def test_a_server_that_cannot_start_says_why():
    with (
        ServerProcess(Settings("192.0.2.1:0", SECRET, 2, 1)) as server,
        pytest.raises(RuntimeError, match="is not an address of this machine"),
    ):
        server.address()


@pytest.mark.long
def test_a_server_that_is_killed_as_it_starts_is_told(server_process):
    os.kill(server_process.pid, signal.SIGKILL)
    with pytest.raises(RuntimeError, match="it ended with exit code -9"):
        server_process.address()


OWN = """
import keras

@keras.saving.register_keras_serializable("mine")
class Halved(keras.optimizers.SGD):
    def update_step(self, gradient, variable, learning_rate):
        super().update_step(gradient, variable, learning_rate / 2)
"""


def test_an_optimizer_of_ones_own_comes_from_its_module(
    tmp_path, monkeypatch, variables, gradients
):
    (tmp_path / "own_optimizer.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    import own_optimizer

    with ServerProcess(
        Settings("127.0.0.1:0", SECRET, 1, 0, modules=("own_optimizer",))
    ) as server:
        chief = Exchange(server.address(), SECRET, worker=0)
        made = own_optimizer.Halved(0.5)
        chief.join(
            Description.of(variables, made), [v.numpy() for v in variables]
        )
        before = chief.read().values
        after = chief.update(gradients, step=0).values
        np.testing.assert_allclose(before[0] - after[0], 0.25, rtol=1e-5)
        chief.close()


@keras.saving.register_keras_serializable("tests")
class Elsewhere(keras.optimizers.SGD):
    pass


def test_only_an_optimizer_needs_the_modules_it_is_of(
    tmp_path, monkeypatch, variables, gradients
):
    (tmp_path / "broken_module.py").write_text("raise RuntimeError('broken')")
    monkeypatch.syspath_prepend(tmp_path)
    modules = ("broken_module", "no_such_module")
    values = [v.numpy() for v in variables]
    with ServerProcess(
        Settings("127.0.0.1:0", SECRET, 1, 0, modules=modules)
    ) as server:
        chief = Exchange(server.address(), SECRET, worker=0)
        for module, why in (
            ("broken_module", "RuntimeError: broken"),
            ("no_such_module", "No module named 'no_such_module'"),
        ):
            monkeypatch.setattr(Elsewhere, "__module__", module)
            with pytest.raises(ValueError, match="it cannot make") as caught:
                chief.join(Description.of(variables, Elsewhere(0.5)), values)
            told = str(caught.value)
            assert f"could not import {module}: " in told
            assert why in told
            assert told.count("could not import") == 1
        chief.join(Description.of(variables, sgd()), values)
        before = chief.read().values
        after = chief.update(gradients, step=0).values
        np.testing.assert_allclose(before[0] - after[0], 0.5, rtol=1e-5)
        chief.close()
