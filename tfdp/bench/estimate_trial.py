"""Runs a script until its first `fit`, and estimates that; see `tfdp estimate`.

`python -m tfdp.bench.estimate_trial RESULT BATCH SCRIPT [ARGS]` is one worker.
It runs the script as Python would, until `callbacks.DataParallel` is told that
training begins: then the chief writes what it would take, and all end.
"""

import json
import pathlib
import runpy
import sys
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from tfdp.callbacks.data_parallel import DataParallel
from tfdp.memory import Estimate, estimate
from tfdp.optimizer import DistributedOptimizer
from tfdp.synchronization.sharded_state import ShardedState
from tfdp.upstream.keras import keras_data, keras_fit


def estimates(
    model: keras.Model, batch: Any, size: int | None
) -> Iterator[tuple[str, Estimate]]:
    """Yields what a replica takes, as it is and with other options.

    Options that make no difference, and those that cannot go with the rest,
    are left out. The model is left with another optimizer.

    Args:
        model: A compiled model.
        batch: A batch of one replica.
        size: Samples that each is to see; `None` for as many.
    """
    given = model.optimizer
    yield "as it is", estimate(model, batch, per_replica_batch=size)
    strategy = model.distribute_strategy
    is_ours = isinstance(given, DistributedOptimizer)
    if strategy.num_replicas_in_sync == 1 or not is_ours:
        return
    for name, option in (
        ("compression='bfloat16'", {"compression": "bfloat16"}),
        ("synchronization=ShardedState()", {"synchronization": ShardedState()}),
    ):
        config = {**given.get_config(), "name": "other"}
        config["inner_optimizer"] = type(given.inner_optimizer).from_config(
            given.inner_optimizer.get_config()
        )
        try:
            with strategy.scope():
                model.optimizer = DistributedOptimizer(**{**config, **option})
        except (TypeError, ValueError):
            continue
        yield name, estimate(model, batch, per_replica_batch=size)


def _batch_of_fit(strategy: Any) -> Any:
    """Returns the first batch of this worker's first replica."""
    data = keras_data.distributed_dataset(keras_fit.fit_under_way())
    batch = next(iter(data))
    return tf.nest.map_structure(
        lambda each: strategy.experimental_local_results(each)[0], batch
    )


def main(result: str, batch: str, script: str, *args: str) -> None:
    """Runs a script that ends where its first fit begins.

    Args:
        result: Name of the file to write.
        batch: Samples of a replica; 0 for as many as the script has.
        script: Name of the script.
        args: Its arguments.

    Raises:
        RuntimeError: If the script ends without such a fit.
    """
    is_seen = False

    def rehearsal(model: keras.Model) -> None:
        nonlocal is_seen
        is_seen = True
        strategy = model.distribute_strategy
        first = _batch_of_fit(strategy)
        rows = keras.tree.flatten(first)[0].shape[0]
        found = [
            {"name": name, **vars(each)}
            for name, each in estimates(model, first, int(batch) or int(rows))
        ]
        if strategy.is_chief:
            pathlib.Path(result).write_text(json.dumps(found))
        strategy.barrier()
        raise SystemExit(0)

    DataParallel.rehearsal = staticmethod(rehearsal)
    sys.argv = [script, *args]
    sys.path[0] = str(pathlib.Path(script).resolve().parent)
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        if is_seen or end.code:
            raise
    if not is_seen:
        raise RuntimeError(
            "A script that is estimated must train by `fit`, with "
            f"`callbacks.DataParallel`. Received: {script}, which has ended "
            "without. Give the arguments by which it does, and "
            "`callbacks=[tfdp.callbacks.DataParallel(), ...]` to its `fit`."
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
