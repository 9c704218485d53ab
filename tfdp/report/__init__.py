"""A page of charts from the logs of runs.

Reads what `tfdp.run_log` has written and knows no other room; the libraries
that draw are those of the extra `report`.
"""

from tfdp.report.comparison import called, read
from tfdp.report.goodput import logged_goodput
from tfdp.report.timeline import write_trace
from tfdp.report.words import shortened
