"""Starts, losses and ends of workers, as who survives them writes them down.

Knows boards and `tfdp.report.goodput`. Must not know how workers are started.
"""

from tfdp.launching.journal.journal import Journal
