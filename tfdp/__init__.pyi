# What `tfdp` shows, and where it lives; loaded when a name is first used.

# Its folder has another name in the checkout, where mypy looks.
from . import callbacks as callbacks  # type: ignore[attr-defined]
from . import testing as testing
from .audits.model_audit import audit as audit
from .batch import BatchPlan as BatchPlan
from .calls.launch import launch as launch
from .cluster.cluster import Cluster as Cluster
from .data.grain_shards import shard_options as shard_options
from .data.index_order import shuffled_range as shuffled_range
from .data.shard import shard as shard
from .groups.pipeline import Pipeline as Pipeline
from .groups.stage import Stage as Stage
from .large_batch.adascale import AdaScale as AdaScale
from .large_batch.lars import LARS as LARS
from .large_batch.learning_rate import linear_scaled_rate as linear_scaled_rate
from .large_batch.learning_rate import sqrt_scaled_rate as sqrt_scaled_rate
from .large_batch.momentum import MomentumCorrectedSGD as MomentumCorrectedSGD
from .large_batch.scaling import scale_learning_rate as scale_learning_rate
from .large_batch.schedules import ScaledSchedule as ScaledSchedule
from .large_batch.schedules import StretchedSchedule as StretchedSchedule
from .large_batch.warmup import WarmupSchedule as WarmupSchedule
from .losses import DistributedLoss as DistributedLoss
from .memory.estimate import estimate as estimate
from .memory.find_batch import find_batch as find_batch
from .metrics import DistributedMetric as DistributedMetric
from .optimizer.optimizer import DistributedOptimizer as DistributedOptimizer
from .precision import set_precision as set_precision
from .step.whole_batch import gather as gather
from .strategy.asynchronous import AsynchronousStrategy as AsynchronousStrategy
from .strategy.auto import auto_strategy as auto_strategy
from .strategy.mirrored import MirroredStrategy as MirroredStrategy
from .strategy.multi_worker import (
    MultiWorkerMirroredStrategy as MultiWorkerMirroredStrategy,
)
from .synchronization.delayed import Delayed as Delayed
from .synchronization.delayed_nesterov import DelayedNesterov as DelayedNesterov
from .synchronization.diloco import DiLoCo as DiLoCo
from .synchronization.local_updates import LocalSGD as LocalSGD
from .synchronization.sharded_state import ShardedState as ShardedState
from .synchronization.synchronous import Synchronous as Synchronous

__version__: str
