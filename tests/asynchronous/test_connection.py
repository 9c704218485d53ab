"""What is sent arrives, whole; what is no message is refused."""

import json
import socket
import struct
import threading

import keras  # noqa: F401
import numpy as np
import pytest

from tfdp.asynchronous.wire.connection import Connection, Ended
from tfdp.asynchronous.wire.message import LONGEST_HEADER, Message, Refused

DTYPES = ["float32", "float64", "float16", "bfloat16", "int64", "uint8", "bool"]


@pytest.fixture
def pair():
    server = socket.create_server(("127.0.0.1", 0))
    one = socket.create_connection(server.getsockname())
    other, _ = server.accept()
    server.close()
    connections = Connection(one, 10), Connection(other, 10)
    yield connections
    for connection in connections:
        connection.close()


def arrays(dtype, rng):
    shapes = [(), (0,), (3,), (2, 0, 3), (5, 7), *[(2,)] * 1100]
    return [np.asarray(rng.normal(size=s) * 9).astype(dtype) for s in shapes]


def travelled(pair, message):
    pair[1].most_bytes = 10**9
    sending = threading.Thread(target=pair[0].send, args=(message,))
    sending.start()
    received = pair[1].receive()
    sending.join()
    return received


@pytest.mark.parametrize("dtype", DTYPES)
def test_arrays_arrive_bit_by_bit(pair, dtype):
    sent = arrays(dtype, np.random.default_rng(0))
    message = travelled(pair, Message("update", {"step": 1, "a": None}, sent))
    assert message[:2] == ("update", {"step": 1, "a": None})
    for before, after in zip(sent, message.arrays, strict=True):
        assert (after.dtype, after.shape) == (before.dtype, before.shape)
        assert after.tobytes() == before.tobytes()
        assert after.flags.owndata
        assert after.flags.writeable
        assert after.flags.aligned


def test_large_and_strided_arrays_arrive(pair):
    large = np.arange(6_000_000, dtype="float32").reshape(2000, 3000)
    (after,) = travelled(pair, Message("update", {}, [large.T])).arrays
    np.testing.assert_array_equal(after, large.T)


def test_many_threads_send_at_a_time(pair):
    pair[1].most_bytes = 10**9
    sent = [np.full(50_000, i, "float32") for i in range(20)]
    threads = [
        threading.Thread(target=pair[0].send, args=(Message("x", {}, [a]),))
        for a in sent
    ]
    for thread in threads:
        thread.start()
    received = [pair[1].receive().arrays[0] for _ in sent]
    for thread in threads:
        thread.join()
    assert sorted(a[0] for a in received) == list(range(20))
    assert all((a == a[0]).all() for a in received)


@pytest.mark.parametrize("dtype", ["object", "U3", "datetime64[s]", ">f4"])
def test_only_numbers_are_sent(pair, dtype):
    with pytest.raises(TypeError, match="must hold numbers. Received"):
        pair[0].send(Message("update", {}, [np.zeros(2, dtype)]))


def raw(header, size, begin=b"tfa1"):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack(">4sIQ", begin, len(text), size) + text


def announced(dtype="float32", shape=(2,), kind="update", fields=None):
    arrays = [[dtype, shape]]
    return {"kind": kind, "fields": fields or {}, "arrays": arrays}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            b"GET / HTTP/1.1\r\n\r\n",
            r"b'GET / HTTP/1.1\\r\\n', which begins no",
        ),
        (
            struct.pack(">4sIQ", b"tfa1", LONGEST_HEADER + 1, 0),
            f"a header of {LONGEST_HEADER + 1} bytes, and",
        ),
        (raw(announced(), 10**12), "arrays of 1000000000000 bytes, and 1000"),
        (raw(announced(shape=(2**40, 2**30)), 8), "of shape"),
        (raw(announced(shape=(10**6,)), 8), "whose shapes take 4000000"),
        (raw(announced(shape=(-2, -1)), 8), "of shape"),
        (raw(announced(shape=(True, 2)), 8), "of shape"),
        (raw(announced(shape=[1] * 40), 4), "of shape"),
        (raw(announced(dtype="object"), 16), "of dtype 'object"),
        (raw(announced(dtype="O"), 16), "of dtype 'O"),
        (raw(announced(dtype=["f4"]), 16), "its header is|of dtype"),
        (raw(announced(kind=3), 8), "its header is"),
        (raw(announced(fields=[1]), 8), "its header is"),
        (raw(b"\x80\x04K\x01.", 0), "its header is"),
        (raw(b"[" * 200_000, 0), "its header is"),
        (raw({"kind": "x"}, 0), "its header is"),
        (raw([1], 0), "its header is"),
        (
            raw({"kind": "x", "fields": {}, "arrays": [["float32"]]}, 0),
            "header",
        ),
    ],
)
def test_what_is_no_message_is_refused(pair, text, why):
    pair[1].most_bytes = 1000
    pair[0]._socket.sendall(text)
    with pytest.raises(Refused, match=why):
        pair[1].receive()


def test_an_end_is_noticed_at_once(pair):
    threading.Timer(0.1, pair[0].close).start()
    with pytest.raises(Ended, match="closed the connection"):
        pair[1].receive()
    with pytest.raises(Ended):
        pair[1].send(Message("x", {}, [np.zeros(10**7)]))


def test_an_end_in_the_middle_is_noticed(pair):
    pair[1].most_bytes = 1000
    pair[0]._socket.sendall(raw(announced(), 8) + b"1234")
    pair[0].close()
    with pytest.raises(Ended, match="closed the connection"):
        pair[1].receive()


def test_silence_counts_as_an_end(pair):
    pair[1]._socket.settimeout(0.1)
    pair[1].most_bytes = 1000
    pair[0]._socket.sendall(raw(announced(), 8) + b"1234")
    with pytest.raises(Ended, match="nothing came or went for 0.1 s"):
        pair[1].receive()


def test_small_messages_are_not_held_back(pair):
    for connection in pair:
        no_delay = connection._socket.getsockopt(
            socket.IPPROTO_TCP, socket.TCP_NODELAY
        )
        keepalive = connection._socket.getsockopt(
            socket.SOL_SOCKET, socket.SO_KEEPALIVE
        )
        assert no_delay
        assert keepalive
