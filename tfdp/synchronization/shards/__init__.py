"""What replicas have shared out: who owns what, updates it, and saves it.

Knows variables, devices and workers; must not know how gradients are reduced.
"""

from tfdp.synchronization.shards.gathered_slots import GatheredSlots
from tfdp.synchronization.shards.not_in_checkpoints import NotInCheckpoints
from tfdp.synchronization.shards.owned import Owned
from tfdp.synchronization.shards.shard import Shard, assign_all
from tfdp.synchronization.shards.sharing import share_over_workers, share_parts
