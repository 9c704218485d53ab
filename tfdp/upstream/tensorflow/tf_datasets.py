"""What TensorFlow keeps inside of datasets.

A doorway to private names of TensorFlow, each of which has a contract in
`tests/upstream/test_tf_datasets.py`.
"""

import contextlib
import math
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import tensorflow as tf

from tfdp.upstream.private import Member, Name, optional

# A base class, which has to be there on import. Without the private one, Keras
# takes no dataset for a distributed one that a program gives to `fit` itself.
_distributed_dataset = Name(
    "tensorflow.python.distribute.input_lib.DistributedDataset",
    "tensorflow.distribute.DistributedDataset",
    serves="datasets cannot be distributed",
)
DistributedDataset: Any = _distributed_dataset.find()

_ORDER = "workers that read in different orders would not be noticed"
_functions = Member("_functions", serves=_ORDER)
_inputs = Member("_inputs", serves=_ORDER)
_drop_remainder = Member(
    "_drop_remainder", serves="tfdp.shard would not know what `batch` drops"
)
_asks_others = Member(
    "_enable_get_next_as_optional",
    serves="workers ask each other before each step whether there are data",
)
_tensors = Member(
    "_tensors", serves="workers that are given other samples are not noticed"
)
_filename = Member(
    "_filename", serves="workers would read each other's cached samples"
)
_reshuffles = Member(
    "_reshuffle_each_iteration",
    serves="what a lost worker leaves would be read again in another order",
)
_DRAWS = ("Random", "TruncatedNormal", "Multinomial", "Stateful", "Rng")
# As `tf.data.experimental.ExternalStatePolicy` has it, in C++.
_IGNORE_STATE = 1
BATCHES = ("Batch", "ParallelBatch", "PaddedBatch")


class Batching(NamedTuple):
    """How samples are put together.

    Attributes:
        size: Samples of a full batch.
        drops_remainder: Whether a last, smaller one is left out.
    """

    size: int
    drops_remainder: bool


def shuffle_seeds(dataset: tf.data.Dataset) -> list[int]:
    """Returns the seeds of every shuffling in a dataset's pipeline.

    Two datasets of equal construction whose lists differ are shuffled
    differently.
    """
    own = (getattr(dataset, name, None) for name in ("_seed", "_seed2"))
    seeds = [int(seed.numpy()) for seed in own if isinstance(seed, tf.Tensor)]
    for wrapper in _functions.of(dataset)():
        seeds += _seeds_in_graph(wrapper.function.graph.as_graph_def())
    for source in _inputs.of(dataset)():
        seeds += shuffle_seeds(source)
    return seeds


def source_datasets(dataset: tf.data.Dataset) -> list[tf.data.Dataset]:
    """Returns the datasets that a pipeline begins with.

    But random numbers, which are others whenever they are begun.
    """
    if kind(dataset) == "Random":
        return []
    parts = inputs(dataset)
    if not parts:
        return [dataset]
    return [source for part in parts for source in source_datasets(part)]


def pipeline_steps(dataset: tf.data.Dataset) -> list[str]:
    """Returns what a pipeline does, from its end to its sources.

    By the names of TensorFlow's classes: `["Prefetch", "Batch", "Range"]`.
    """
    steps = [kind(dataset)]
    for source in _inputs.of(dataset)():
        steps += pipeline_steps(source)
    return steps


def calls_python(dataset: tf.data.Dataset) -> bool:
    """Whether a pipeline calls functions of Python's, as a generator is."""
    return any("PyFunc" in op for op in _operations(dataset)) or any(
        map(calls_python, _inputs.of(dataset)())
    )


def draws_order(dataset: tf.data.Dataset) -> bool:
    """Whether the last operation of a pipeline draws another order each time.

    That is, whenever it is begun.
    """
    if kind(dataset) == "Shuffle":
        return bool(_reshuffles.of(dataset))
    return kind(dataset) == "Random"


def captures_dataset(dataset: tf.data.Dataset) -> bool:
    """Whether the last function of a pipeline uses a dataset from outside."""
    return any(
        tensor.dtype == tf.variant
        for wrapper in _functions.of(dataset)()
        for tensor in wrapper.function.captured_inputs
    )


def draws_numbers(dataset: tf.data.Dataset) -> bool:
    """Whether the last function of a pipeline draws, or may, random numbers.

    Which are others where it is called less often; not those of a seed that
    it is given each time.
    """
    return any(
        "PyFunc" in op
        or any(kind in op for kind in _DRAWS)
        and "Stateless" not in op
        and op != "RandomIndexShuffle"
        for op in _operations(dataset)
    )


def _operations(dataset: tf.data.Dataset) -> Iterator[str]:
    for wrapper in _functions.of(dataset)():
        graph = wrapper.function.graph.as_graph_def()
        for nodes in (
            graph.node,
            *(f.node_def for f in graph.library.function),
        ):
            yield from (node.op for node in nodes)


def _seeds_in_graph(graph: tf.compat.v1.GraphDef) -> list[int]:
    seeds = []
    for nodes in (graph.node, *(f.node_def for f in graph.library.function)):
        by_name = {node.name: node for node in nodes}
        for node in nodes:
            if "Shuffle" in node.op:
                seeds += [
                    node.attr[name].i
                    for name in ("seed", "seed2")
                    if name in node.attr
                ]
                seeds += _integers_behind(node, by_name)
    return seeds


def _integers_behind(node: Any, by_name: dict[str, Any]) -> list[int]:
    # A seed that a dataset was given goes through a few operations before it
    # reaches the shuffling.
    integers, seen, left = [], set(), list(node.input)
    while left:
        name = left.pop().removeprefix("^").partition(":")[0]
        if name in seen or name not in by_name:
            continue
        seen.add(name)
        source = by_name[name]
        if source.op == "Equal":
            # Whether a seed is zero, which is no seed of its own.
            continue
        left += source.input
        value = source.attr["value"].tensor
        if source.op == "Const" and value.dtype == tf.int64.as_datatype_enum:
            integers += [int(i) for i in tf.make_ndarray(value).flat]
    return integers


def end_together(dataset: Any) -> None:
    """Has workers not ask each other, before each step, whether to go on.

    Args:
        dataset: A distributed dataset, which has as many batches on all.
    """
    with optional():
        _asks_others.replace(dataset, False)


def inputs(dataset: tf.data.Dataset) -> list[tf.data.Dataset]:
    """Returns the datasets that a dataset is made of."""
    return list(_inputs.of(dataset)())


def through(dataset: tf.data.Dataset) -> Iterator[tf.data.Dataset]:
    """Goes through a dataset and all that it is made of."""
    yield dataset
    for part in inputs(dataset):
        yield from through(part)


def kind(dataset: tf.data.Dataset) -> str:
    """Returns what the last operation of a pipeline is.

    Returns:
        A name such as `"Map"`, `"ParallelMap"` or `"Prefetch"`.
    """
    name = "".join(filter(str.isalnum, type(dataset).__name__))
    return name.partition("Dataset")[0]


def called(dataset: tf.data.Dataset) -> str:
    """Returns what users call the last operation of a pipeline."""
    name = kind(dataset).removeprefix("Parallel")
    return re.sub("(?<=.)([A-Z])", r"_\1", name).lower()


def batching(dataset: tf.data.Dataset) -> Batching | None:
    """Returns how a dataset puts samples together, if that is what it does."""
    size = getattr(dataset, "_batch_size", None)
    if size is None or kind(dataset) not in BATCHES:
        return None
    return Batching(int(size), bool(_drop_remainder.of(dataset)))


def drops_remainder(dataset: tf.data.Dataset) -> bool:
    """Whether a dataset leaves out the last samples, if they are too few.

    A batch or window of samples, at any place of a pipeline.
    """
    drops = kind(dataset) in (*BATCHES, "Window", "Rebatch")
    return drops and bool(_drop_remainder.of(dataset))


def cache_file(dataset: tf.data.Dataset) -> str:
    """Returns what file a dataset caches its elements in; "" for none."""
    if kind(dataset) != "Cache":
        return ""
    return _filename.of(dataset).numpy().decode()


def leaves_order(dataset: tf.data.Dataset) -> bool:
    """Whether the last operation of a pipeline was told not to keep an order.

    By its argument `deterministic=False`; or one of a dataset that a function
    of it makes.
    """
    own = getattr(dataset, "_deterministic", None)
    if own is None and kind(dataset) == "ParallelInterleave":
        return _leaves_order(_graph_of(dataset))
    return own == "false" or any(
        _leaves_order(wrapper.function.graph.as_graph_def())
        for wrapper in _functions.of(dataset)()
    )


def _leaves_order(graph: tf.compat.v1.GraphDef) -> bool:
    return any(
        "deterministic" in node.attr
        and node.attr["deterministic"].s == b"false"
        for nodes in (
            graph.node,
            *(f.node_def for f in graph.library.function),
        )
        for node in nodes
    )


def _graph_of(dataset: tf.data.Dataset) -> tf.compat.v1.GraphDef:
    """Returns a pipeline as a graph; an empty one if it is too large for it."""
    graph = tf.compat.v1.GraphDef()
    with contextlib.suppress(tf.errors.OpError):
        graph.ParseFromString(
            tf.raw_ops.DatasetToGraphV2(
                input_dataset=tf.data.experimental.to_variant(dataset),
                external_state_policy=_IGNORE_STATE,
            ).numpy()
        )
    return graph


def tensors(source: tf.data.Dataset) -> list[tf.Tensor]:
    """Returns what a source holds in memory; nothing if it reads elsewhere."""
    if kind(source) not in ("Tensor", "TensorSlice"):
        return []
    return list(_tensors.of(source))


def tables(dataset: tf.data.Dataset, least: int) -> list[tf.Tensor | bytes]:
    """Returns tensors that the last function of a pipeline looks things up in.

    Args:
        dataset: Any.
        least: How many elements they have, or more. Smaller ones may be seeds
            and sizes.

    Returns:
        Tensors from outside of the function, and the octets of its own.
    """
    found: list[tf.Tensor | bytes] = []
    for wrapper in _functions.of(dataset)():
        found += [
            tensor
            for tensor in wrapper.function.captured_inputs
            if tensor.dtype not in (tf.resource, tf.variant)
            and (tensor.shape.num_elements() or 0) >= least
        ]
        graph = wrapper.function.graph.as_graph_def()
        for nodes in (
            graph.node,
            *(f.node_def for f in graph.library.function),
        ):
            for node in nodes:
                value = node.attr["value"].tensor
                sizes = [each.size for each in value.tensor_shape.dim]
                if node.op == "Const" and math.prod(sizes) >= least:
                    found.append(value.SerializeToString())
    return found
