"""Whole batches by their numbers, for workers of which none waits for another.

Which numbers a worker reads, a feed says while it trains: its own, and later
those of a worker that was lost. Batch i of an epoch has the samples that it has
on one device.
"""

from tfdp.data.blocks import blocks_of
from tfdp.data.numbered.arrays import ArrayBatches
from tfdp.data.numbered.feeding import Feed, Source, fed
from tfdp.data.numbered.items import ItemBatches, grain_items
from tfdp.data.numbered.steps import InSteps
from tfdp.data.numbered.stream import Stream
from tfdp.data.numbered.whole import check_whole
