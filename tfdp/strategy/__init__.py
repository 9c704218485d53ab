"""TensorFlow's data-parallel strategies, repaired for Keras 3.

Knows steps, the cluster and what workers agree on. How an update is made, and
who watches it, it must not know.
"""

from tfdp.strategy.asynchronous import AsynchronousStrategy
from tfdp.strategy.auto import auto_strategy
from tfdp.strategy.batch_statistics import BatchStatistics
from tfdp.strategy.carrier import Carrier
from tfdp.strategy.data_parallel_strategy import DataParallelStrategy
from tfdp.strategy.distributed_dataset import CountedDataset, no_batches
from tfdp.strategy.numbered import NumberedDataset
from tfdp.strategy.same_variables import filling_alone
from tfdp.strategy.scope import check_scope, counts_samples, uncounted
