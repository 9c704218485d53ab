import re
import subprocess
import sys

import pytest

from tfdp.cluster.nodes import Nodes, free_addresses


def test_workers_of_a_machine_have_ports_that_follow_each_other():
    nodes = Nodes(("a:10", "[::1]:20"), rank=1, workers_per_node=2)
    assert nodes.addresses == ("a:10", "a:11", "[::1]:20", "[::1]:21")
    assert nodes.first_index == 2
    assert nodes.host == "[::1]"


def test_a_machine_has_one_worker_unless_told():
    nodes = Nodes(("a:10", "b:10", "c:10"), rank=2)
    assert (nodes.addresses, nodes.first_index) == (nodes.first_addresses, 2)


def test_two_nodes_on_one_machine_may_have_ports_apart():
    nodes = Nodes(("a:10", "a:12"), rank=0, workers_per_node=2)
    assert nodes.addresses == ("a:10", "a:11", "a:12", "a:13")


@pytest.mark.parametrize("rank", [-1, 2])
def test_rank_is_the_place_of_a_machine(rank):
    with pytest.raises(ValueError, match=rf"rank={rank}, with 2 node\(s\)"):
        Nodes(("a:1", "b:1"), rank=rank)


@pytest.mark.parametrize("address", ["", "a", "a:", ":1", "a:b", "a:0"])
def test_malformed_address_is_named(address):
    with pytest.raises(ValueError, match=re.escape(f"Received: {address!r}")):
        Nodes(("b:1", address), rank=0)


@pytest.mark.parametrize(
    ("second", "twice"), [("a:10", "a:10"), ("a:11", "a:11"), ("a:9", "a:10")]
)
def test_overlapping_ports_are_named(second, twice):
    with pytest.raises(ValueError, match=f"Received: {twice} more than once"):
        Nodes(("a:10", second), rank=0, workers_per_node=2)


def test_last_port_must_exist():
    with pytest.raises(ValueError, match="Received: 'a:65536'"):
        Nodes(("a:65535",), rank=0, workers_per_node=2)


@pytest.mark.parametrize("count", [0, -1, True, 1.5, "2", 10**12])
def test_workers_of_a_machine_are_counted(count):
    with pytest.raises(
        (TypeError, ValueError), match="Received: workers_per_node="
    ):
        Nodes(("a:10",), rank=0, workers_per_node=count)


HOLD = """
import socket
with socket.create_server(("", 0)) as server:
    print(server.getsockname()[1], flush=True)
    input()
"""


def test_taken_port_of_this_machine_is_named_with_its_holder():
    with subprocess.Popen(
        [sys.executable, "-c", HOLD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        port = int(holder.stdout.readline())
        nodes = Nodes((f"127.0.0.1:{port}", "elsewhere:45"), rank=0)
        with pytest.raises(RuntimeError) as caught:
            nodes.check_ports()
        assert f"address=127.0.0.1:{port}" in str(caught.value)
        assert f"process {holder.pid}" in str(caught.value)

        holder.stdin.close()


def test_free_addresses_differ():
    assert len(set(free_addresses(20))) == 20
