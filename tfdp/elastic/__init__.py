"""Workers of one machine that become fewer when one falls, and more again.

Knows the launcher of a group. Must not know TensorFlow, nor what workers do.
"""

from tfdp.elastic.elastic_group import ElasticGroup
from tfdp.elastic.elastic_launcher import ElasticLauncher
from tfdp.elastic.slots import Slots
