"""How gradients travel between replicas: in which order, packs, and by what.

Knows no way to synchronise, and what is done with the sums.
"""

from tfdp.synchronization.travel.carried import carried, sums_by
from tfdp.synchronization.travel.packs import Packed, ready_first
