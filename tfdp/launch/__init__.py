"""Processes as workers: started, watched, blamed and ended together.

Knows the machine and the cluster. Must not know TensorFlow, nor what the
workers do.
"""

from tfdp.launch.fork_server import ForkServer, fixed
from tfdp.launch.launcher import Launcher
from tfdp.launch.start_up_lines import is_start_up_line
from tfdp.launch.worker_function import command_of
from tfdp.launch.worker_group import WorkerGroup, worker_variables
from tfdp.launch.worker_settings import (
    MOST_SECONDS,
    MOST_WORKERS,
    SET_FOR_WORKERS,
    checked_variables,
    checked_workers,
)
