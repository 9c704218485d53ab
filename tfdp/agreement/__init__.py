"""What workers tell each other, to do the same thing.

Every function is a collective, outside of steps; `StepMessage` is what rides
in one. Knows a strategy by what it says of its workers
only; must not know how one steps, updates or reports.
"""

from tfdp.agreement.ballot import QUESTIONS, Ballot
from tfdp.agreement.clocks import compared_clocks
from tfdp.agreement.datasets import (
    check_same_dataset,
    have_same_length,
    warn_of_overlap,
)
from tfdp.agreement.gathering import (
    Workers,
    agreed_seed,
    all_gather,
    broadcast,
    check_same,
    check_same_packs,
    gather_objects,
)
from tfdp.agreement.items import (
    check_own_files,
    check_same_beginning,
    check_same_length,
    check_same_order,
    common_signature,
    warn_of_other_orders,
)
from tfdp.agreement.same_program import program
from tfdp.agreement.step_message import StepMessage
from tfdp.agreement.windows import gathered_window
from tfdp.agreement.yields import check_same_yields
