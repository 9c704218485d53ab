"""Couriers of several workers add up, and notice when one is lost."""

import concurrent.futures
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest

from tfdp.transport import Courier
from tfdp.upstream import gloo

pytestmark = pytest.mark.skipif(
    not gloo.is_there(), reason="gloo is not installed"
)


def couriers(count, host="127.0.0.1"):
    made = [Courier(i, count, host, seconds=30) for i in range(count)]
    addresses = [each.address() for each in made]
    together(made, lambda each: each.connect(addresses))
    return made


def together(made, do):
    """Every worker does the same at once."""
    with concurrent.futures.ThreadPoolExecutor(len(made)) as pool:
        return [each.result(60) for each in [pool.submit(do, m) for m in made]]


def sums(courier, *arrays):
    tickets, found = zip(*map(courier.take, arrays), strict=True)
    courier.wait(max(tickets))
    return list(found)


@pytest.fixture
def two():
    made = couriers(2)
    yield made
    for each in made:
        each.close()


@pytest.mark.parametrize("count", [2, 3])
def test_all_have_the_same_sums(count):
    made = couriers(count)
    random = np.random.default_rng(count)
    shapes = [(), (1,), (7, 3), (300, 500)]
    own = {
        each: [random.normal(size=s).astype("float32") for s in shapes]
        for each in made
    }
    found = together(made, lambda each: sums(each, *own[each]))
    for place in range(len(shapes)):
        parts = np.stack([own[each][place] for each in made])
        for each in found:
            assert each[place].tobytes() == found[0][place].tobytes()
            np.testing.assert_allclose(
                each[place], parts.sum(0, "float64"), rtol=1e-5, atol=1e-6
            )
    for each in made:
        each.close()


def test_of_two_the_sum_is_exact(two):
    values = np.random.default_rng(0).normal(size=(2, 1001)).astype("float32")
    own = dict(zip(two, values, strict=True))
    for (found,) in together(two, lambda each: sums(each, own[each])):
        assert found.tobytes() == (values[0] + values[1]).tobytes()


def test_places_are_used_again(two):
    for number in range(5):
        values = np.full(10, number, "float32")
        for (found,) in together(two, lambda each, v=values: sums(each, v)):
            assert (found == 2 * number).all()
        del found
    assert {each.memory.num_places for each in two} <= {1, 2}


def test_what_one_takes_does_not_wait_for_the_others(two):
    ticket, found = two[0].take(np.ones(3, "float32"))
    sums_of_other = sums(two[1], np.ones(3, "float32"))
    two[0].wait(ticket)
    assert found.tolist() == sums_of_other[0].tolist() == [2, 2, 2]


def test_a_program_that_does_not_begin_is_told():
    courier = Courier(0, 1, "127.0.0.1", seconds=0.01)
    try:
        with pytest.raises(ConnectionError, match=r"begun within 0\.01 s"):
            courier.address()
    finally:
        courier.close()


def test_a_program_that_is_gone_is_noticed_at_once(two):
    program_of(two[1]).kill()
    ticket, _ = two[0].take(np.ones(3, "float32"))
    begin = time.monotonic()
    with pytest.raises(ConnectionError, match="RuntimeError: .*gloo"):
        two[0].wait(ticket)
    with pytest.raises(ConnectionError, match="RuntimeError: .*gloo"):
        two[0].wait(ticket)
    assert time.monotonic() - begin < 5


def test_of_its_own_program_an_end_is_told(two):
    program_of(two[0]).kill()
    ticket, _ = two[0].take(np.ones(3, "float32"))
    ended = f"process {two[0].pid}, has ended, by SIGKILL"
    with pytest.raises(ConnectionError, match=ended):
        two[0].wait(ticket)


def test_of_its_own_program_a_stop_is_told(two):
    program_of(two[0]).suspend()
    ticket, _ = two[0].take(np.ones(3, "float32"))
    with pytest.raises(ConnectionError, match="is stopped. Look at what"):
        two[0].wait(ticket)


def test_a_short_stop_is_none(two):
    program_of(two[0]).suspend()
    ticket, found = two[0].take(np.ones(3, "float32"))
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(two[0].wait, ticket)
        time.sleep(1.5)
        program_of(two[0]).resume()
        sums(two[1], np.ones(3, "float32"))
        waiting.result(30)
    assert found.tolist() == [2, 2, 2]


def test_while_it_waits_it_looks_whether_all_are_there(two):
    class Lost(Exception):
        pass

    def watch():
        raise Lost

    two[0].watch = watch
    ticket, _ = two[0].take(np.ones(3, "float32"))
    with pytest.raises(Lost):
        two[0].wait(ticket)


def test_who_waits_lets_others_run(two):
    """gloo alone would hold Python's lock."""
    ticket, _ = two[0].take(np.ones(3, "float32"))
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(two[0].wait, ticket)
        ticks = 0
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            time.sleep(0.01)
            ticks += 1
        assert not waiting.done()
        sums(two[1], np.ones(3, "float32"))
        waiting.result(30)
    assert ticks > 10


def test_it_listens_on_its_own_address_alone(two):
    listening = {
        each.laddr.ip
        for courier in two
        for each in program_of(courier).net_connections("tcp")
        if each.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}


def test_an_address_of_another_machine_is_refused():
    courier = Courier(0, 2, "192.0.2.1", seconds=5)
    with pytest.raises(ConnectionError, match="192.0.2.1|address"):
        courier.address()
    courier.close()


def test_who_does_not_come_is_not_waited_for_longer():
    alone = Courier(0, 2, "127.0.0.1", seconds=1)
    other = Courier(1, 2, "127.0.0.1", seconds=1)
    addresses = [alone.address(), other.address()]
    other.close()
    with pytest.raises(ConnectionError, match="RuntimeError"):
        alone.connect(addresses)
    alone.close()


def test_signals_for_the_worker_do_not_end_its_program(two):
    for name in (signal.SIGINT, signal.SIGTERM):
        os.kill(program_of(two[0]).pid, name)
    found = together(two, lambda each: sums(each, np.ones(2, "float32")))
    assert found[0][0].tolist() == [2, 2]


@pytest.mark.parametrize("how", ["sys.exit()", "os.kill(os.getpid(), 9)"])
def test_with_the_worker_its_program_ends(how):
    worker = subprocess.run(
        [
            sys.executable,
            "-c",
            "import os, sys\n"
            "from tfdp.transport import Courier\n"
            "courier = Courier(0, 2, '127.0.0.1', seconds=30)\n"
            "courier.address()\n"
            "print(courier.pid, flush=True)\n" + how,
        ],
        capture_output=True,
        text=True,
    )
    pid = int(json.loads(worker.stdout))
    end = time.monotonic() + 10
    while psutil.pid_exists(pid) and time.monotonic() < end:
        time.sleep(0.02)
    assert not psutil.pid_exists(pid)


def test_a_fork_of_the_worker_does_not_end_its_program(two):
    if os.fork() == 0:
        two[0].close()
        os._exit(0)
    os.wait()
    found = together(two, lambda each: sums(each, np.ones(2, "float32")))
    assert found[0][0].tolist() == [2, 2]


def program_of(courier):
    return psutil.Process(courier.pid)
