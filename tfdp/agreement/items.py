"""What workers must agree on where each computes its own items.

Every function is a collective: see `tfdp.agreement`.
"""

import warnings
from typing import Any

import tensorflow as tf

from tfdp.agreement.gathering import Workers, gather_objects


def check_same_length(strategy: Workers, items: int | None) -> None:
    """Checks that workers know of as many items.

    Args:
        strategy: The strategy whose workers meet.
        items: How many there are, of all workers; `None` for no end.

    Raises:
        ValueError: On every worker, if they do not.
    """
    by_worker = gather_objects(strategy, items)
    if len(set(by_worker)) > 1:
        raise ValueError(
            "Every worker must be given the items of all workers. Received "
            f"numbers of items, by worker: {', '.join(map(str, by_worker))}. "
            "Give `tfdp.shard` the whole PyDataset on each worker."
        )


def check_same_beginning(strategy: Workers, digest: int) -> None:
    """Checks that workers split the same elements in the same order.

    Args:
        strategy: The strategy whose workers meet.
        digest: Of the first elements of all workers.

    Raises:
        ValueError: On every worker, if they do not.
    """
    by_worker = gather_objects(strategy, digest)
    if len(set(by_worker)) > 1:
        raise ValueError(
            "Every worker must split the same elements in the same order. "
            "Received: elements before `tfdp.shard` that are not the same on "
            "all workers. Shuffle with the same seed on each."
        )


def check_own_files(strategy: Workers, files: list[str]) -> None:
    """Checks that workers cache their own samples in files of their own.

    Args:
        strategy: The strategy whose workers meet.
        files: The names of this worker's.

    Raises:
        ValueError: On every worker, if two of them have one name.
    """
    by_worker = gather_objects(strategy, files)
    names = [name for given in by_worker for name in set(given)]
    shared = sorted({name for name in names if names.count(name) > 1})
    if shared:
        raise ValueError(
            "After `tfdp.shard` each worker caches its own samples, in files "
            f"of its own. Received: `cache({shared[0]!r})` on several "
            "workers, of which each would read what another has written. "
            "Name the worker and how many there are, "
            "`cache(f'{name}-{strategy.worker_index}-of-"
            "{strategy.num_workers}')`, or cache in memory: `cache()`."
        )


def check_same_order(
    strategy: Workers, method: str, changed: dict[str, int]
) -> None:
    """Checks that workers have reordered their items in the same way.

    Args:
        strategy: The strategy whose workers meet.
        method: What may have reordered them.
        changed: A digest of each attribute that it has changed.

    Raises:
        ValueError: On every worker, if some differ.
    """
    differing = _differing(strategy, changed)
    if differing:
        raise ValueError(
            "Every worker must order the items of a PyDataset alike, or some "
            f"are seen twice and others never. Received: `{method}` has left "
            f"`{'`, `'.join(differing)}` not the same on all workers. Draw "
            "the order, and nothing else, from a generator of its own that "
            "has the same seed on each worker: "
            "`self.rng = np.random.default_rng(seed)`."
        )


def warn_of_other_orders(strategy: Workers, attributes: dict[str, int]) -> None:
    """Warns where workers begin with attributes that are not the same.

    These may be an order, or what a worker has read of its own items.

    Args:
        strategy: The strategy whose workers meet.
        attributes: A digest of each that may be an order.
    """
    differing = _differing(strategy, attributes)
    if differing:
        warnings.warn(
            "Every worker must order the items of a PyDataset alike, or some "
            "are seen twice and others never. Received: "
            f"`{'`, `'.join(differing)}` not the same on all workers. Where "
            "that is an order, draw it with the same seed on each worker.",
            stacklevel=2,
        )


def common_signature(strategy: Workers, signature: Any) -> Any:
    """Returns a type of batches that those of all workers have.

    Each knows its own first items, whose sizes may be others' by chance.

    Args:
        strategy: The strategy whose workers meet.
        signature: Structure of `tf.TypeSpec` of this worker's batches.

    Raises:
        ValueError: On every worker, if they have none.
    """
    dense = [
        spec
        for spec in tf.nest.flatten(signature)
        if isinstance(spec, tf.TensorSpec)
    ]
    by_worker = gather_objects(
        strategy,
        [
            str(
                tf.nest.map_structure(
                    lambda spec: getattr(spec, "dtype", str(spec)), signature
                )
            ),
            [spec.shape.as_list() for spec in dense],
        ],
    )
    kinds, shapes = zip(*by_worker, strict=True)
    ranks = {str([len(shape) for shape in each]) for each in shapes}
    if len(set(kinds)) > 1 or len(ranks) > 1:
        raise ValueError(
            "The items of all workers must have the same structure. Received: "
            f"{'; '.join(f'{k} of {s}' for k, s in by_worker)}. Return as "
            "many arrays of the same types from each `__getitem__`."
        )
    common = iter([_common(of_all) for of_all in zip(*shapes, strict=True)])
    return tf.nest.map_structure(
        lambda spec: (
            tf.TensorSpec(next(common), spec.dtype)
            if isinstance(spec, tf.TensorSpec)
            else spec
        ),
        signature,
    )


def _differing(strategy: Workers, digests: dict[str, int]) -> list[str]:
    by_worker = gather_objects(strategy, digests)
    names = dict.fromkeys(name for given in by_worker for name in given)
    return [
        name
        for name in names
        if any(given.get(name) != by_worker[0].get(name) for given in by_worker)
    ]


def _common(shapes: tuple[list[int | None], ...]) -> list[int | None]:
    return [
        sizes[0] if len(set(sizes)) == 1 else None
        for sizes in zip(*shapes, strict=True)
    ]
