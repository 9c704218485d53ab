"""A run on disk, as it is written: its header, its rows, its event files.

Knows the machine and what a model holds. `tfdp.report` reads what is written
here; neither knows the other.
"""

from tfdp.run_log.diary import Diary
from tfdp.run_log.event_file import EventFile, opened
from tfdp.run_log.header import run_header
from tfdp.run_log.run_log import RunLog, numbers_in
from tfdp.run_log.time_account import TimeAccount, time_account
from tfdp.run_log.timeline_log import TimelineLog
