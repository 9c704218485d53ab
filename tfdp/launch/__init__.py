"""Processes as workers: started, watched, blamed and ended together.

Knows the machine and the cluster. Must not know TensorFlow, nor what the
workers do.
"""

from tfdp.launch.asynchronous_group import AsynchronousGroup
from tfdp.launch.fork_server import ForkServer, fixed
from tfdp.launch.launcher import Launcher
from tfdp.launch.restarts import Restarts
from tfdp.launch.stalls import StallWatch
from tfdp.launch.start_up_lines import is_start_up_line
from tfdp.launch.worker_failure import WorkerFailure
from tfdp.launch.worker_function import command_of
from tfdp.launch.worker_group import WorkerGroup
from tfdp.launch.worker_settings import (
    MOST_SECONDS,
    MOST_WORKERS,
    SECRET,
    SET_FOR_WORKERS,
    check_secret,
    checked_variables,
    checked_workers,
    worker_variables,
)
