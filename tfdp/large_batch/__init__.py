"""How far to go with a larger batch: learning rates, schedules, optimizers.

Knows what gradients tell about noise; must not know how they are summed, nor
any callback.
"""

from tfdp.large_batch.adascale import AdaScale
