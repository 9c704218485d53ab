"""What workers do without waiting for each other, one device can replay."""

import threading
import time

import exchanging
import numpy as np
import pytest

from tfdp.asynchronous.exchange import Exchange
from tfdp.asynchronous.serving.server import Server
from tfdp.asynchronous.serving.server_settings import Settings

SECRET = "of this job"
COUNT, EPOCHS = 9, 2


def served(bound, workers, **kwargs):
    return Server(
        Settings("127.0.0.1:0", SECRET, workers, bound, **kwargs),
        say=lambda line: None,
    )


class Worker(threading.Thread):
    """A loop in a thread, which may be slow, die, and come back."""

    def __init__(self, server, worker, loop, *, then_read=False):
        super().__init__(daemon=True)
        self.server, self.worker, self.loop = server, worker, loop
        self.then_read = then_read
        self.weights, self.exchange = None, None

    def run(self):
        self.exchange = Exchange(
            self.server.address, SECRET, worker=self.worker, start_timeout=30
        )
        try:
            self.weights = self.loop.run(
                self.exchange, EPOCHS, then_read=self.then_read
            )
        except Killed:
            # As the kernel does it, in the middle of anything.
            self.exchange._session._connection.close()


class Killed(BaseException):
    pass


def slow(done):
    time.sleep(0.02)


def dies(done):
    if done == 3:
        raise Killed


def trained(bound, optimizer, behaviours, *, then_read=False, again=()):
    """Trains, and returns the server, and the weights of the chief."""
    server = served(bound, len(behaviours))
    loops = [exchanging.Loop(COUNT, optimizer, b) for b in behaviours]
    workers = [
        Worker(server, i, loop, then_read=then_read)
        for i, loop in enumerate(loops)
    ]
    for worker in workers:
        worker.start()
    for index in again:
        workers[index].join(60)
        loop = exchanging.Loop(COUNT, optimizer, slow)
        workers[index] = Worker(server, index, loop, then_read=then_read)
        workers[index].start()
    for worker in workers:
        worker.join(60)
        assert not worker.is_alive(), "stuck"
    statistics = workers[0].exchange.statistics()
    log = workers[0].exchange.log()
    weights = [w.weights for w in workers if w.weights is not None]
    iterations = server.training.model.iterations
    for worker in workers:
        worker.exchange.close()
    assert server.wait(10)
    assert len(log) == statistics["version"] == iterations
    for other in weights[1:]:
        for a, b in zip(weights[0], other, strict=True):
            np.testing.assert_array_equal(a, b)
    return log, weights[0]


def check(log, weights, bound, optimizer):
    # Each batch of each epoch once.
    assert sorted(update.step for update in log) == [*range(COUNT * EPOCHS)]
    assert max(update.staleness for update in log) <= bound
    again = exchanging.replayed(log, COUNT, optimizer)
    for ours, theirs in zip(weights, again[-1], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert not np.array_equal(again[0][0], again[-1][0])


FAULTS = {
    "even": [None, None],
    "slow": [None, slow],
    "killed": [slow, dies],
    "rejoining": [slow, dies],
    "three": [None, slow, None],
    "three-killed": [slow, dies, slow],
}


@pytest.mark.parametrize("then_read", [False, True], ids=["read", "then-read"])
@pytest.mark.parametrize("faults", FAULTS)
@pytest.mark.parametrize("optimizer", exchanging.OPTIMIZERS)
@pytest.mark.parametrize("bound", [0, 1, 2, 8])
def test_the_log_replayed_on_one_device_gives_the_same_bits(
    bound, optimizer, faults, then_read
):
    behaviours = [b or (lambda done: None) for b in FAULTS[faults]]
    again = [1] if faults == "rejoining" else []
    log, weights = trained(
        bound, optimizer, behaviours, then_read=then_read, again=again
    )
    check(log, weights, bound, optimizer)
    if bound == 0:
        check_plain(log, weights, optimizer)


def check_plain(log, weights, optimizer):
    """Taking turns is what one device does, in another order of batches."""
    model = exchanging.make_model()
    model.compile(exchanging.OPTIMIZERS[optimizer](), "mse")
    x, y = exchanging.batches(COUNT)
    for update in log:
        number = update.step % COUNT
        model.train_on_batch(x[number], y[number])
    for ours, theirs in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
