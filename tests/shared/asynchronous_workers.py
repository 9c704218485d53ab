"""Workers as the launcher starts them, of which the chief has a server."""

import contextlib
import json
import os
import signal
import time

import exchanging

from tfdp.asynchronous.exchange import Exchange
from tfdp.asynchronous.serving.server_process import ServerProcess
from tfdp.asynchronous.serving.server_settings import Settings

COUNT, EPOCHS, BOUND = 6, 3, 2


def train(dying):
    """Trains, and kills itself after two updates, but not twice.

    Args:
        dying: Indices of the workers that do so.

    Returns:
        The log of the server on the chief; else the number of updates made.
    """
    config = json.loads(os.environ["TF_CONFIG"])
    index, addresses = config["task"]["index"], config["cluster"]["worker"]
    secret = os.environ["TFDP_JOB_SECRET"]
    is_dying = index in dying and os.environ["TFDP_RESTART_COUNT"] == "0"
    with contextlib.ExitStack() as stack:
        if index == 0:
            settings = Settings(addresses[0], secret, len(addresses), BOUND)
            server = stack.enter_context(ServerProcess(settings))
            assert server.address() == addresses[0]
        exchange = stack.enter_context(
            contextlib.closing(Exchange(addresses[0], secret, worker=index))
        )

        def before_update(done):
            if is_dying and done == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            # Until all are there, or there again, nobody is fast.
            while index == 0 and done and not all_are_there():
                time.sleep(0.05)
            time.sleep(0.05)

        def all_are_there():
            living = exchange.statistics()["living"]
            return set(living) >= set(range(len(addresses)))

        loop = exchanging.Loop(COUNT, "Adam", before_update)
        loop.run(exchange, EPOCHS)
        if index:
            return loop.done
        return [list(map(int, update)) for update in exchange.log()]
