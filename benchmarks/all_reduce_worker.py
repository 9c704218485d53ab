"""One of two workers that exchange bytes, in one of four ways.

    python benchmarks/all_reduce_worker.py tcp|tfdp|carried|torch [bfloat16]

Each turn it is given `bytes` and `calls`, and answers with the mean `seconds`
of a call, after one that is not measured.
"""

import os
import select
import socket
import sys
import time

from harness.turns import serve


def tcp(_):
    """What a ring of two sends, halves there and back, without any sum."""
    address = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
    if os.environ["RANK"] == "0":
        with socket.create_server(address) as server:
            peer, _ = server.accept()
    else:
        peer = _connected(address)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    peer.setblocking(False)

    def exchanging(size):
        own, other = (
            memoryview(bytes(size // 2)),
            memoryview(bytearray(size // 2)),
        )

        def run():
            _exchange(peer, own, other)
            _exchange(peer, own, other)

        return run

    return exchanging


def _connected(address):
    deadline = time.monotonic() + 60
    while True:
        try:
            return socket.create_connection(address)
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _exchange(peer, own, other):
    """Sends the one and receives the other, both at once."""
    while own or other:
        readable, writable, _ = select.select(
            [peer] if other else [], [peer] if own else [], []
        )
        if readable:
            received = peer.recv_into(other)
            if not received:
                raise EOFError("The other worker has ended.")
            other = other[received:]
        if writable:
            own = own[peer.send(own) :]


def tfdp(dtype):
    """TensorFlow's all-reduce under tfdp's strategy."""
    import tensorflow as tf

    from tfdp.bench.all_reduce_trials import all_reducing, ones
    from tfdp.strategy.multi_worker import MultiWorkerMirroredStrategy

    strategy = MultiWorkerMirroredStrategy()

    def exchanging(size):
        run = all_reducing(strategy, ones(strategy, [size], tf.as_dtype(dtype)))
        _check_sum(run())
        return run

    return exchanging


def carried(dtype):
    """What tfdp's gradients travel by."""
    import tensorflow as tf

    from tfdp.bench.all_reduce_trials import ones
    from tfdp.strategy.multi_worker import MultiWorkerMirroredStrategy
    from tfdp.synchronization.reduction import all_reduced

    strategy = MultiWorkerMirroredStrategy()

    def exchanging(size):
        values = ones(strategy, [size], tf.as_dtype(dtype))

        @tf.function
        def step(values):
            return strategy.run(
                lambda own: all_reduced([tf.identity(own[0])])[0][0], (values,)
            )

        def run():
            return float(strategy.experimental_local_results(step(values))[0])

        _check_sum(run())
        return run

    return exchanging


def torch(dtype):
    """PyTorch's all-reduce on gloo."""
    import torch
    import torch.distributed

    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    kind = getattr(torch, dtype)

    def exchanging(size):
        tensor = torch.ones(size // kind.itemsize, dtype=kind)
        torch.distributed.all_reduce(tensor)
        _check_sum(tensor[0].item())
        # It is summed in place, and must not grow.
        tensor.zero_()
        return lambda: torch.distributed.all_reduce(tensor)

    return exchanging


def _check_sum(value):
    if value != 2:
        raise RuntimeError(
            f"Two workers with ones must sum to 2. Received: {value}."
        )


def main(program, dtype="float32"):
    programs = {"tcp": tcp, "tfdp": tfdp, "carried": carried, "torch": torch}
    exchanging = programs[program](dtype)
    made = {}

    def turn(argument):
        size, calls = argument["bytes"], argument["calls"]
        if size not in made:
            made.clear()
            made[size] = exchanging(size)
        run = made[size]
        run()
        begin = time.perf_counter()
        for _ in range(calls):
            run()
        return (time.perf_counter() - begin) / calls

    serve(turn)


main(*sys.argv[1:])
