"""An exchange without a server, whose workers do what they are told."""

import collections
import contextlib

import keras

from tfdp.asynchronous.received import Spent


class FakeExchange:
    """Of worker 1, whose only other is worker 0."""

    worker = 1

    def __init__(self, bound=4):
        self.bound = bound
        self.spent = Spent(7.0, 5.0)
        self.staleness = {
            "0": collections.Counter({2: 50}),
            "1": collections.Counter({3: 50}),
        }
        self.computed = {"0": 100.0, "1": 100.0}
        self.waited = {"0": 50.0, "1": 50.0}
        self.lost = {}

    def update(self, worker, *, stale, computed, waited=0.0):
        self.staleness[worker][stale] += 1
        self.computed[worker] += computed
        self.waited[worker] += waited

    def statistics(self):
        return {
            "version": sum(h.total() for h in self.staleness.values()),
            "max_staleness": self.bound,
            "staleness": {
                w: {str(k): n for k, n in h.items()}
                for w, h in self.staleness.items()
            },
            "updates": {w: h.total() for w, h in self.staleness.items()},
            "skipped": {},
            "waited": {
                w: {"read": 0.0, "update": t} for w, t in self.waited.items()
            },
            "computed": dict(self.computed),
            "learning_rates": [],
            "living": [0, 1],
            "lost": dict(self.lost),
        }


class Exchanging(keras.callbacks.Callback):
    """Has each step exchange, in time that passes as told.

    It comes before the monitor, whose steps end after it. A step takes a second
    to compute and a second to exchange, of which half is waiting for room; the
    other worker makes two updates in each.

    Args:
        exchange: What is told of it.
        others: Seconds for which the other waits for room, for each update.
    """

    def __init__(self, exchange, others=0.25):
        super().__init__()
        self.others = others
        self.exchange = exchange
        self.now = 0.0

    def __call__(self):
        # Whatever comes later, is.
        self.now += 2**-20
        return self.now

    def on_train_batch_end(self, batch, logs=None):
        self.now += 2.0
        spent = self.exchange.spent
        self.exchange.spent = Spent(spent.exchanging + 1.0, spent.waiting + 0.5)
        self.exchange.update("1", stale=2, computed=1.5, waited=0.5)
        self.exchange.update("0", stale=0, computed=0.75, waited=self.others)
        self.exchange.update("0", stale=1, computed=0.75, waited=self.others)


@contextlib.contextmanager
def asynchronous(strategy, exchange):
    """Has a strategy look as if its workers were asynchronous."""
    strategy.exchange = exchange
    strategy.max_staleness = exchange.bound
    strategy.size = 2
    try:
        yield exchange
    finally:
        del strategy.exchange, strategy.max_staleness, strategy.size
