"""What one replica knows inside of a step: its samples, gradients and times.

Works in replica context, within a graph. Knows no strategy, no optimizer, and
no other worker.
"""

from tfdp.step.clock import GraphClock
from tfdp.step.division import (
    check_not_divided,
    count_for,
    divisions,
    noting_divisions,
    pretended,
    pretending,
)
from tfdp.step.gradients import (
    Gradient,
    at_least_float32,
    deduplicated,
    is_finite,
    on_values,
    weighted,
)
from tfdp.step.logged_losses import metrics_of_all
from tfdp.step.meter import CAPACITY, Settings, StepMeter, stamped
from tfdp.step.parts import updating
from tfdp.step.places import Layout, placed, placed_inside
from tfdp.step.randomness import (
    By,
    checked_random_by,
    seed_layers,
    seeded_by,
)
from tfdp.step.samples import (
    LossWeight,
    SampleCounter,
    counted,
    evening_factor,
    first_time_in_step,
    gradients_mix,
    local_samples,
    taken_weight,
    weighed,
)
from tfdp.step.turns import taking_turns
from tfdp.step.uneven_batches import fitted
from tfdp.step.waiting import call_for_each_replica, tensors_in, waiting_for
from tfdp.step.whole_batch import rows_of_all
