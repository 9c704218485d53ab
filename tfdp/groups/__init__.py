"""Several devices as one replica: which they are, and what runs where.

Knows of a strategy only that it may have `groups`. How replicas come together
it must not know.
"""

from tfdp.groups.device_groups import (
    beside,
    checked_groups,
    count_of,
    in_groups,
    of_workers,
)
from tfdp.groups.pipeline import Pipeline
from tfdp.groups.placement import group_size
from tfdp.groups.stage import Stage
