"""What each worker reads: which samples are whose, and in which order.

Knows datasets and which worker this is. Must not know strategies, steps or
models.
"""

from tfdp.data.arrays import split_arrays
from tfdp.data.grain_shards import digest, is_shard
from tfdp.data.index_order import go_to, length
from tfdp.data.items import WorkerItems
from tfdp.data.mark import cache_files, is_marked, wholes
from tfdp.data.micro_batch import micro_batch_of
from tfdp.data.one_order import in_one_order
from tfdp.data.orders import orders
from tfdp.data.pipeline import pipeline
from tfdp.data.shares import Share
from tfdp.data.split import Split, by_replica, by_rows
from tfdp.data.yields import Yields, yields
