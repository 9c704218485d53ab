"""Whether samples can be counted and measured, as they are trained on."""

from typing import Any

import keras

from tfdp.optimizer import DistributedOptimizer
from tfdp.strategy import DataParallelStrategy
from tfdp.upstream.keras import keras_data, keras_fit


def counts_samples(model: keras.Model) -> bool:
    """Whether samples are counted where a model is trained.

    Args:
        model: A compiled model.
    """
    return isinstance(model.optimizer, DistributedOptimizer) and isinstance(
        model.distribute_strategy, DataParallelStrategy
    )


def check_counted(model: keras.Model, *, is_built: bool = False) -> None:
    """Checks that there are updates, of counted samples.

    Args:
        model: A compiled model.
        is_built: Whether it has made a step, so that all weights are there.
            Defaults to `False`: a model without any may get some.

    Raises:
        RuntimeError: If there are none.
    """
    if not isinstance(model.optimizer, DistributedOptimizer):
        raise RuntimeError(
            "`callbacks.ThroughputMonitor` needs an optimizer that counts "
            f"samples. Received: {type(model.optimizer).__name__}. Compile "
            "with `tfdp.DistributedOptimizer(inner_optimizer)`."
        )
    if (is_built or model.weights) and not model.trainable_variables:
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


def check_measure(unit: str, **functions: Any) -> None:
    """Checks by what samples are to be measured.

    Args:
        unit: What they are called.
        **functions: Functions, or `None` for those left out.

    Raises:
        TypeError: If a function cannot be called.
        ValueError: If `unit` is no name.
    """
    for name, function in functions.items():
        if function is not None and not callable(function):
            raise TypeError(
                f"`{name}` must be a function. Received: {name}={function!r}. "
                "Pass one, or leave it out."
            )
    if not isinstance(unit, str) or not unit:
        raise ValueError(
            "`unit` must be what samples are called. Received: "
            f'unit={unit!r}. Pass, for example, "tokens".'
        )


def nothing_measured() -> RuntimeError:
    """Returns the error of reading what was not measured yet."""
    return RuntimeError(
        "What was measured must be read after an epoch has ended. Received: a "
        "ThroughputMonitor that has seen none. Give it to `fit` as one of "
        "`callbacks=[...]` first."
    )


def no_samples() -> RuntimeError:
    """Returns the error of an epoch without an update."""
    return RuntimeError(
        "Each step must update with the model's DistributedOptimizer, which "
        "counts samples. Received: an epoch that trained on none. Call "
        "`self.optimizer.apply_gradients(...)` in `train_step`."
    )


def all_read_all(strategy: DataParallelStrategy) -> bool:
    """Whether each worker reads the samples of all, in the `fit` that runs.

    Args:
        strategy: The strategy of the model that is fitted.
    """
    fit = keras_fit.fit_under_way()
    return (
        strategy.num_workers > 1
        and fit is not None
        and not keras_data.distributed_dataset(fit).is_split
    )
