"""Processes as workers: started, watched, blamed and ended together.

Knows the machine and the cluster. Must not know TensorFlow, nor what the
workers do.
"""

from tfdp.launching.asynchronous_group import AsynchronousGroup
from tfdp.launching.fork_server import ForkServer, fixed
from tfdp.launching.launcher import Launcher
from tfdp.launching.restarts import Restarts
from tfdp.launching.stalls import StallWatch
from tfdp.launching.start_up_lines import is_start_up_line
from tfdp.launching.worker_failure import WorkerFailure
from tfdp.launching.worker_function import command_of
from tfdp.launching.worker_group import WorkerGroup
from tfdp.launching.worker_settings import (
    MOST_SECONDS,
    MOST_WORKERS,
    SECRET,
    SET_FOR_WORKERS,
    check_secret,
    checked_variables,
    checked_workers,
    worker_variables,
)
