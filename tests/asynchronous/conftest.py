"""A server in this process, and workers that talk to it."""

import concurrent.futures
import contextlib

import exchanging
import numpy as np
import pytest

from tfdp.asynchronous.description import Description
from tfdp.asynchronous.exchange import Exchange
from tfdp.asynchronous.serving.server import Server
from tfdp.asynchronous.serving.server_settings import Settings

SECRET = "of this job"


class Serving:
    """A server, and what it says."""

    def __init__(self, num_workers=2, max_staleness=1, **kwargs):
        self.lines = []
        self.server = Server(
            Settings(
                "127.0.0.1:0", SECRET, num_workers, max_staleness, **kwargs
            ),
            say=self.lines.append,
        )
        self.exchanges = []

    def exchange(self, worker, **kwargs):
        made = Exchange(self.server.address, SECRET, worker=worker, **kwargs)
        self.exchanges.append(made)
        return made

    def joined(self, worker, variables, optimizer, statistics=()):
        exchange = self.exchange(worker)
        self.begin(exchange, variables, optimizer, statistics)
        return exchange

    def begin(self, exchange, variables, optimizer, statistics=()):
        description = Description.of(variables, optimizer, statistics)
        return exchange.join(description, [v.numpy() for v in variables])

    def close(self):
        # The chief last, as its leaving ends the others.
        for exchange in reversed(self.exchanges):
            exchange.close()
        self.server.end("the test has ended")


@pytest.fixture
def serving():
    with contextlib.ExitStack() as stack:

        def serve(*args, **kwargs):
            return stack.enter_context(
                contextlib.closing(Serving(*args, **kwargs))
            )

        yield serve


@pytest.fixture
def threads():
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        yield pool


@pytest.fixture
def variables():
    return exchanging.make_model().trainable_variables


@pytest.fixture
def gradients(variables):
    return [np.ones(v.shape, "float32") for v in variables]
