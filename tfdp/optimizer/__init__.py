"""The update: its order, and each of its parts.

From the gradients of a micro-batch to new weights. Knows steps and the scope of
a strategy; must not know rates, callbacks or files.
"""

from tfdp.optimizer.loss_scale import FLOOR
from tfdp.optimizer.noise_scale import NoiseScale
from tfdp.optimizer.optimizer import DistributedOptimizer
from tfdp.optimizer.update_count import UpdateCount
