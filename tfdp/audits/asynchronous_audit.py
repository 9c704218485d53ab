"""What training differs in where workers do not wait for each other."""

from collections.abc import Iterator

import keras

from tfdp.audits.findings import Finding
from tfdp.strategy import AsynchronousStrategy
from tfdp.upstream.keras import inspection


def findings(model: keras.Model) -> Iterator[Finding]:
    """Looks at a model in an `AsynchronousStrategy` of several workers.

    Args:
        model: A compiled model.
    """
    strategy = model.distribute_strategy
    if not isinstance(strategy, AsynchronousStrategy) or strategy.size == 1:
        return
    bound = strategy.max_staleness
    yield Finding(
        "Updates of one device are of the weights at hand."
        if bound
        else "The batches of one device come in one order.",
        f"gradients that up to {bound} updates of others have overtaken"
        if bound
        else "workers that take turns, in an order that differs between runs",
        "note",
        "A synchronous strategy is exact; the price is in "
        "docs/ideas/staleness.md.",
    )
    found = [
        f"`{layer.name}`"
        for layer in inspection.layers(model)
        if layer.trainable and inspection.synchronizes(layer)
    ]
    if found:
        yield Finding(
            "Asynchronous workers do not meet in a layer.",
            f"{', '.join(found)} with synchronized=True, of which each worker "
            "sees its own batches alone",
            "warning",
            "Leave it out, or use a synchronous strategy.",
        )
