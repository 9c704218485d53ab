"""What share of a job's time was updates that remain, and where the rest went.

Of rows that say when workers started, how they spent their time, and how they
ended, as a launcher or a run log tells them. Must not know either.
"""

from tfdp.report.goodput.attempt import Attempt
from tfdp.report.goodput.attempts import logged_goodput
from tfdp.report.goodput.goodput import PARTS, Goodput
