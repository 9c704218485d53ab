"""Launchers of several machines, of which some may be missing.

They find each other by a list of addresses, and the smallest rank that is
there leads. Knows groups of workers; must not know TensorFlow, nor what
workers do.
"""

from tfdp.elastic.nodes.node_launcher import NodeLauncher
from tfdp.elastic.nodes.post import Post, Refused
from tfdp.elastic.nodes.program import program_of
from tfdp.elastic.nodes.roster import Roster
