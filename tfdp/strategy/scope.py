"""What an optimizer needs of the strategy around it."""

import tensorflow as tf

from tfdp.strategy.data_parallel_strategy import DataParallelStrategy


def check_scope(strategy: tf.distribute.Strategy) -> None:
    """Checks that the strategy at work is that of the optimizer.

    Args:
        strategy: The one that the optimizer was created in.

    Raises:
        RuntimeError: If it is another one.
    """
    current = tf.distribute.get_strategy()
    if current is not strategy:
        raise RuntimeError(
            "The optimizer must be created in the scope of the strategy that "
            f"trains. Received: created under {type(strategy).__name__}, used "
            f"under {type(current).__name__}. Build and compile the model, "
            "and create the optimizer, inside `with strategy.scope():`."
        )


def counts_samples(strategy: tf.distribute.Strategy) -> bool:
    """Whether a strategy knows how many samples each replica was given."""
    return isinstance(strategy, DataParallelStrategy)


def uncounted(strategy: tf.distribute.Strategy, what: str) -> RuntimeError:
    """Returns the error for samples that are needed and not counted.

    Args:
        strategy: The strategy, which does not count them.
        what: What needs them.
    """
    return RuntimeError(
        f"{what} needs a strategy that counts samples. Received: "
        f"{type(strategy).__name__}. Create the optimizer inside "
        "`with strategy.scope():` of a tfdp strategy, and call it from `fit` "
        "or `strategy.run`; `tfdp.auto_strategy()` returns one for any number "
        "of devices."
    )
