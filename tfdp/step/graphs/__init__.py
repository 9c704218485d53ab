"""What is seen in the graph of a step: what depends on what, and how.

It knows the names that TensorFlow gives operations and their types, which have
contracts in `tests/step/test_graphs.py`.
"""

from tfdp.step.graphs.assignments import Assignment, assignments, counts
from tfdp.step.graphs.dependence import leads
from tfdp.step.graphs.linearity import Gradients
from tfdp.step.graphs.moved import moved_by
