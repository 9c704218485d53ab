"""Whether a dataset draws an order whenever it is begun."""

import tensorflow as tf

from tfdp.upstream.tensorflow import tf_datasets

# What begins its inputs when an element is wanted, not when it is begun.
_BEGINS_LATE = ("Shuffle", "Concatenate")


class OrdersDrawn:
    """How a dataset comes by its order.

    Args:
        dataset: Any.

    Attributes:
        are_drawn: Whether another order is drawn each time it is begun.
        are_nested: Whether some of it is drawn later, when the first element
            is wanted.
        are_forked: Whether the state of a new iterator has all of it.
    """

    def __init__(self, dataset: tf.data.Dataset) -> None:
        nodes = list(tf_datasets.through(dataset))
        has_captured = any(map(tf_datasets.captures_dataset, nodes))
        self.are_drawn = has_captured or any(
            map(tf_datasets.draws_order, nodes)
        )
        self.are_nested = has_captured or any(
            tf_datasets.draws_order(below)
            for node in nodes
            if tf_datasets.kind(node) in _BEGINS_LATE
            for part in tf_datasets.inputs(node)
            for below in tf_datasets.through(part)
        )
        self.are_forked = self.are_drawn and not self.are_nested
