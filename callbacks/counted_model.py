"""A model whose samples are counted, as they are trained on."""

import keras

from tfdp.optimizer import DistributedOptimizer
from tfdp.strategy import DataParallelStrategy


def counts_samples(model: keras.Model) -> bool:
    """Whether samples are counted where a model is trained.

    Args:
        model: A compiled model.
    """
    return isinstance(model.optimizer, DistributedOptimizer) and isinstance(
        model.distribute_strategy, DataParallelStrategy
    )


def check_counted(model: keras.Model) -> None:
    """Checks that there are updates, of counted samples.

    Args:
        model: A compiled model.

    Raises:
        RuntimeError: If there are none.
    """
    if not isinstance(model.optimizer, DistributedOptimizer):
        raise RuntimeError(
            "`callbacks.ThroughputMonitor` needs an optimizer that counts "
            f"samples. Received: {type(model.optimizer).__name__}. Compile "
            "with `tfdp.DistributedOptimizer(inner_optimizer)`."
        )
    # One that is not built has no weights at all.
    if model.weights and not model.trainable_variables:
        raise RuntimeError(
            "`callbacks.ThroughputMonitor` measures updates. Received: a model "
            "without trainable weights, of which there are none. Set "
            "`trainable=True` on a layer and compile again, or leave the "
            "monitor out."
        )
    strategy = model.distribute_strategy
    if not isinstance(strategy, DataParallelStrategy):
        raise RuntimeError(
            "`callbacks.ThroughputMonitor` needs a strategy that counts "
            f"samples. Received: {type(strategy).__name__}. Build and "
            "compile the model in the scope of a tfdp strategy; "
            "`tfdp.auto_strategy()` returns one for any number of devices."
        )
