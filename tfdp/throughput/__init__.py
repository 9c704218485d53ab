"""From times and samples to rates, and to what limits them.

Arithmetic and words: no TensorFlow, no clock, no other room.
"""

from tfdp.throughput.asynchrony import Asynchrony
from tfdp.throughput.asynchrony_table import print_asynchrony
from tfdp.throughput.feed import Feed
from tfdp.throughput.limits import Limit, limit
from tfdp.throughput.rates import Rates
from tfdp.throughput.room import room_words
from tfdp.throughput.spans import WIDTH, Span, no_rows, state_row
from tfdp.throughput.step_times import StepLog, StepTimes
from tfdp.throughput.table import print_table
from tfdp.throughput.vote_timer import VoteTimer
from tfdp.throughput.window import Memory, Window
