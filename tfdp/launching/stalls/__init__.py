"""Workers that run and get nowhere: noticed, looked into, and told.

Knows boards, stacks and processes. Must not know how workers are started or
ended.
"""

from tfdp.launching.stalls.finding import last_words
from tfdp.launching.stalls.stall_watch import StallWatch
