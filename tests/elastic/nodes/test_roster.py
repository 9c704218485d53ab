"""Who the machines are, and which workers of an attempt each has."""

import re
import socket

import pytest

from tfdp.elastic.nodes import Roster


def test_slots_are_counted_over_all_machines():
    roster = Roster(("a:10", "[::1]:20", "c:30"), rank=1, slots_per_node=2)
    assert [list(roster.slots_of(rank)) for rank in range(3)] == [
        [0, 1],
        [2, 3],
        [4, 5],
    ]
    assert roster.worker_addresses(range(6)) == [
        "a:11",
        "a:12",
        "[::1]:21",
        "[::1]:22",
        "c:31",
        "c:32",
    ]


def test_indices_are_those_of_an_attempt():
    roster = Roster(("a:10", "b:10", "c:10"), rank=1, slots_per_node=2)
    slots = [1, 2, 3, 5]
    assert [roster.own(slots, rank) for rank in range(3)] == [
        range(1),
        range(1, 3),
        range(3, 4),
    ]
    assert roster.own(slots) == range(1, 3)
    assert roster.own([0, 5]) == range(0)
    assert roster.others == [0, 2]


@pytest.mark.parametrize(
    ("addresses", "is_local"),
    [(("127.0.0.1:1", "localhost:9"), True), (("127.0.0.1:1", "a:1"), False)],
)
def test_all_may_be_on_this_machine(addresses, is_local):
    assert Roster(addresses, 0).is_local == is_local


@pytest.mark.parametrize(
    ("addresses", "rank", "slots", "rule"),
    [
        (("a:10", "b:10"), 2, 1, "rank=2, with 2 node(s). Use one from 0 to 1"),
        (("a:10", "a:11"), 0, 1, "address of its own. Received: a:11 more"),
        (("a:10", "b"), 0, 1, "b"),
        (("a:10",), 0, 0, "slots_per_node"),
    ],
)
def test_what_cannot_be_is_refused(addresses, rank, slots, rule):
    with pytest.raises(ValueError, match=re.escape(rule)):
        Roster(addresses, rank, slots)


def test_a_port_that_is_taken_is_told_by_its_holder():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        for first, slots in ((port, 1), (port - 1, 1)):
            roster = Roster((f"127.0.0.1:{first}",), 0, slots)
            with pytest.raises(
                RuntimeError,
                match=rf"127.0.0.1:{port}: Address already in use, held by "
                r"\S+ \(process \d+\)\. End that process, or give the job",
            ):
                roster.check_ports()
