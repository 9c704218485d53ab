"""What a training needs of memory, before it trains.

Follows the graph of a step, without running it. Must not know what starts
workers, nor the command line.
"""

from tfdp.memory.estimate import Estimate, estimate
