"""Who the workers of a job are, where they are, and whether they are there.

The only room that reads a cluster from the environment. Knows the machine; it
must load without TensorFlow, and knows nothing of training.
"""

from tfdp.cluster.cluster import Cluster
from tfdp.cluster.environment import source, whereabouts
from tfdp.cluster.lost_workers import (
    exit_in_time,
    meeting_all_workers,
    naming_lost_workers,
)
from tfdp.cluster.nodes import Nodes, free_addresses
from tfdp.cluster.rendezvous import meet, unreachable, wait_for_leader
from tfdp.cluster.tf_config import tf_config_text
