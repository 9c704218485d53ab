"""A worker that waits inside of TensorFlow at the start can be ended."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import keras
import numpy as np
import pytest

from tfdp.cluster import Cluster, free_addresses, meet
from tfdp.launching import AsynchronousGroup, WorkerGroup
from tfdp.machine.listening import everywhere
from tfdp.strategy import joining

pytestmark = pytest.mark.multi_worker

PROGRAM = """
import os, signal, sys
if "handled" in sys.argv:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
import tfdp
print("starts", flush=True)
try:
    tfdp.auto_strategy()
except TimeoutError as error:
    print(error, flush=True)
    raise
"""


class Peer:
    """Another worker that meets this one, and then does nothing."""

    def __init__(self, cluster):
        self._cluster = cluster
        self.has_met = threading.Event()
        self.is_over = threading.Event()
        self.listens = True
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        meet(self._cluster, timeout=120)
        if not self.listens:
            self.has_met.set()
            return
        port = int(self._cluster.address.rpartition(":")[2])
        with everywhere(port) as server:
            server.listen()
            self.has_met.set()
            self.is_over.wait(120)


@pytest.fixture
def start():
    """Starts a worker of two, whose peer stops at the start of TensorFlow."""
    peers, processes = [], []

    def start(index, *args, timeout="600", listens=True):
        addresses = free_addresses(2)
        peers.append(Peer(Cluster.of(addresses, 1 - index)))
        peers[0].listens = listens
        processes.append(
            subprocess.Popen(
                [sys.executable, "-c", PROGRAM, *args],
                env={
                    **os.environ,
                    "CUDA_VISIBLE_DEVICES": "",
                    "TF_CONFIG": Cluster.of(addresses, index).to_tf_config(),
                    "TFDP_START_TIMEOUT": timeout,
                },
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        )
        assert peers[0].has_met.wait(120)
        return processes[0], addresses

    yield start
    for peer in peers:
        peer.is_over.set()
    for process in processes:
        process.kill()
        process.communicate()


def wait_for_tensorflow(address):
    """Waits until TensorFlow's server listens."""
    host, _, port = address.rpartition(":")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            socket.create_connection((host, int(port)), 5).close()
        except OSError:
            time.sleep(0.1)
        else:
            # It takes SIGTERM for itself a moment later.
            time.sleep(2)
            return
    raise AssertionError("TensorFlow did not start")


@pytest.mark.long
@pytest.mark.parametrize("index", [0, 1])
def test_the_deadline_ends_it_and_says_why(start, index):
    process, _ = start(index, timeout="4")
    begin = time.monotonic()
    output, _ = process.communicate(timeout=60)
    assert time.monotonic() - begin < 30
    assert process.returncode == 1
    assert (
        "TensorFlow must have started on every worker within 4 seconds of "
        "their meeting. Received: all of them listening, but not all have "
        "joined."
    ) in output


@pytest.mark.long
def test_a_worker_that_has_ended_meanwhile_is_named(start):
    process, addresses = start(0, timeout="4", listens=False)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"Received: worker 1 ({addresses[1]}) no longer listening." in output


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("index", "args", "number", "code"),
    [
        (0, [], signal.SIGTERM, -signal.SIGTERM),
        (1, [], signal.SIGINT, -signal.SIGINT),
        (1, ["handled"], signal.SIGTERM, 7),
    ],
)
def test_a_signal_ends_it(start, index, args, number, code):
    process, addresses = start(index, *args)
    wait_for_tensorflow(addresses[index])
    process.send_signal(number)
    begin = time.monotonic()
    assert process.wait(30) in (code, 1)
    assert time.monotonic() - begin < 15


TRAINS = """
import keras, numpy as np, tfdp
keras.utils.set_random_seed(0)
strategy = tfdp.auto_strategy()
random = np.random.default_rng(0)
x, y = random.normal(size=(24, 3)), random.normal(size=(24, 1))
with strategy.scope():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.set_weights([np.ones((3, 1)), np.zeros(1)])
    model.compile(
        tfdp.DistributedOptimizer(keras.optimizers.SGD(0.1)), "mse"
    )
model.fit(
    x, y, 8, shuffle=False, verbose=0, callbacks=[tfdp.callbacks.DataParallel()]
)
print(strategy.num_workers, *[v for w in model.get_weights() for v in w.flat])
"""


@pytest.mark.long
def test_workers_at_addresses_of_ipv6_train_as_one_device():
    try:
        with contextlib.ExitStack() as stack:
            servers = [
                stack.enter_context(
                    socket.create_server(("::1", 0), family=socket.AF_INET6)
                )
                for _ in range(2)
            ]
            addresses = [f"[::1]:{s.getsockname()[1]}" for s in servers]
    except OSError:
        pytest.skip("no IPv6 here")
    lines = []
    with WorkerGroup(
        [sys.executable, "-c", TRAINS],
        2,
        addresses=addresses,
        on_line=lambda worker, line: lines.append(line),
    ) as group:
        assert group.wait(timeout=120) is None
    found = [line.split() for line in lines if line.startswith("2 ")]
    random = np.random.default_rng(0)
    x, y = random.normal(size=(24, 3)), random.normal(size=(24, 1))
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.set_weights([np.ones((3, 1)), np.zeros(1)])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(x, y, 8, shuffle=False, verbose=0)
    right = [v for w in model.get_weights() for v in w.flat]
    assert len(found) == 2
    for words in found:
        np.testing.assert_allclose(
            np.array(words[1:], "float32"), right, atol=1e-6
        )


LATE = """
import sys
import tensorflow as tf, tfdp
tf.constant(1)
try:
    if "resolver" in sys.argv:
        tfdp.MultiWorkerMirroredStrategy(
            tf.distribute.cluster_resolver.TFConfigClusterResolver()
        )
    else:
        tfdp.auto_strategy()
except RuntimeError as error:
    print(error)
"""


@pytest.mark.sampled
@pytest.mark.parametrize("args", [[], ["resolver"]])
def test_a_tensor_made_before_the_strategy_is_refused_at_once(args):
    cluster = Cluster.of(free_addresses(2), 0)
    result = subprocess.run(
        [sys.executable, "-c", LATE, *args],
        env={**os.environ, "TF_CONFIG": cluster.to_tf_config()},
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    assert result.stdout.startswith(
        "A strategy of several workers must be made before anything else of "
        "TensorFlow. Received: TensorFlow has started already, by a tensor, "
    )
    assert "Call `tfdp.auto_strategy()` first" in result.stdout


ALONE = """
import keras, numpy as np, tfdp
strategy = tfdp.auto_strategy()
with strategy.scope():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(
        tfdp.DistributedOptimizer(keras.optimizers.SGD(0.1)), "mse"
    )
x, y = np.ones((8, 2)), np.ones((8, 1))
model.fit(x, y, 4, verbose=0, callbacks=[tfdp.callbacks.DataParallel()])
if strategy.is_chief:
    model.evaluate(x, y, 4, verbose=0)
"""


@pytest.mark.long
def test_an_evaluation_on_the_chief_alone_is_told_as_such():
    lines = []
    addresses = free_addresses(2)
    with WorkerGroup(
        [sys.executable, "-c", ALONE],
        2,
        addresses=addresses,
        on_line=lambda worker, line: lines.append((worker, line)),
    ) as group:
        failure = group.wait(timeout=120)
    assert (failure.worker, failure.exit_code) == (0, 1)
    (told,) = [line for _, line in lines if "UnavailableError: " in line]
    assert told.partition("UnavailableError: ")[2].startswith(
        "Every worker must make the same calls of `fit`, `evaluate`, "
        "`predict` and of a strategy, as they wait for each other in them. "
        f"Received: a call without worker 1 ({addresses[1]}), which has ended"
    )


def test_a_worker_computes_on_the_gpus_it_sees(monkeypatch):
    monkeypatch.setattr(joining, "count_of", {"GPU": 2}.get)
    resolver = joining.joined(Cluster.of(free_addresses(1), 0), 3.0)
    # By which TensorFlow chooses the devices of a worker.
    assert resolver.num_accelerators() == {"GPU": 2}


OF_ALL = """
import tensorflow as tf
import tfdp
makers = [
    tfdp.auto_strategy,
    tfdp.MultiWorkerMirroredStrategy,
    lambda: tfdp.MultiWorkerMirroredStrategy(
        tf.distribute.cluster_resolver.TFConfigClusterResolver()
    ),
]
for make in makers:
    try:
        make()
    except RuntimeError as error:
        print(error)
"""


@pytest.mark.long
def test_workers_that_go_on_without_each_other_do_not_wait_for_each_other():
    lines = [[], []]
    with AsynchronousGroup(
        [sys.executable, "-c", OF_ALL],
        2,
        on_line=lambda worker, line: lines[worker].append(line),
    ) as group:
        assert group.wait(100) is None
    assert group.lost == {}
    told = (
        "A strategy whose workers wait for each other is for workers that end "
        "together. Received: TFDP_ASYNCHRONOUS=1, as `tfdp launch "
        "--asynchronous` sets it. Use `tfdp.AsynchronousStrategy`, or start "
        "the job without --asynchronous."
    )
    assert [[x for x in told_by if x == told] for told_by in lines] == [
        [told] * 3
    ] * 2
