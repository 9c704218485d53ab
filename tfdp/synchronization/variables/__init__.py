"""Variables as replicas and rounds have them: each its own, slots, sets.

Knows variables and the scope of a strategy; must not know gradients, nor who
updates what.
"""

from tfdp.synchronization.variables.replica_variables import (
    assign_each,
    replica_local,
)
from tfdp.synchronization.variables.slots import Slots
from tfdp.synchronization.variables.variable_sets import VariableSets
