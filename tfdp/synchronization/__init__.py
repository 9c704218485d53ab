"""The ways in which replicas come to have the same weights.

Each is a file: it is built with the variables, is handed what replicas have
gathered, reduces that and makes the update, and says what it cannot go with.
Knows steps and the scope of a strategy; must not know cycles of micro-batches,
loss scales, callbacks or files.
"""

from tfdp.synchronization.asynchronous import Asynchronous
from tfdp.synchronization.chosen_way import way_in
from tfdp.synchronization.compression import check_devices
from tfdp.synchronization.fused import add_weighted
from tfdp.synchronization.gradient_statistics import (
    Moments,
    MovingAverage,
    check_comparable,
    checked_smoothing,
    scatter,
    unscaled_moments,
)
from tfdp.synchronization.synchronization import Reduced, Synchronization
from tfdp.synchronization.synchronous import checked_synchronization
from tfdp.synchronization.variables import replica_local
