"""How often two workers meet in a step of `fit`, and what a meeting takes.

    python benchmarks/collectives.py [--quick]

Counts collectives per 8 micro-steps, at 1 and 8 of them per update: of
gradients, which travel in packs; of the input, whether a worker has more; the
messages of logs, and of what workers ask for, as to stop; and votes of workers
between steps. All but the votes are counted in the graph of the step.
A sum of one number is timed, less a call that sums nothing.
"""

import argparse
import inspect
import pathlib
import statistics
import time

from harness.table import print_head, print_row

MODELS = {"tiny": (16, 10), "large": (1024, 2048, 2048, 2048, 10)}
ACCUMULATION = (1, 8)
COLUMNS = ("updates", "gradients", "input", "messages", "votes")
WORKERS, PER_REPLICA_BATCH, STEPS = 2, 8, 24


def work(models, calls):
    """Trains as one of the workers, and reports what it has counted."""
    import tfdp

    strategy = tfdp.auto_strategy()
    report = {"seconds": seconds_of_sum(strategy, int(calls))}
    for model_name in models.split(","):
        for steps in ACCUMULATION:
            found = counted(strategy, MODELS[model_name], steps)
            report[f"{model_name},{steps}"] = found
    tfdp.testing.report(report)


def counted(strategy, widths, accumulation_steps):
    """Returns the collectives of a step, by what they are for."""
    import keras
    import numpy as np
    import tensorflow as tf

    import tfdp
    from tfdp.agreement import ballot

    votes, votes_before_step, gather = [], [], ballot.all_gather

    class Count(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            votes_before_step.append(len(votes))

    def counted_gather(*args, **kwargs):
        votes.append(args)
        return gather(*args, **kwargs)

    with strategy.scope():
        model = keras.Sequential(
            [
                keras.Input((widths[0],)),
                *(keras.layers.Dense(width) for width in widths[1:]),
            ]
        )
        inner = keras.optimizers.SGD(1e-6, momentum=0.9)
        optimizer = tfdp.DistributedOptimizer(inner, accumulation_steps)
        model.compile(optimizer, "mse", metrics=["mae"])
    batch = WORKERS * PER_REPLICA_BATCH
    one = np.ones((batch, widths[0])), np.ones((batch, widths[-1]))
    data = tf.data.Dataset.from_tensors(one).repeat(STEPS)
    ballot.all_gather = counted_gather
    try:
        model.fit(
            data,
            verbose=0,
            callbacks=[tfdp.callbacks.DataParallel(), Count()],
        )
    finally:
        ballot.all_gather = gather
    # As Keras makes it, without what callbacks have put around it.
    model.make_train_function(force=True)
    function = inspect.getclosurevars(model.train_function).nonlocals[
        "multi_step_on_iterator"
    ]
    batches = iter(strategy.experimental_distribute_dataset(data))
    graph = function.get_concrete_function(batches).graph.as_graph_def()
    per_step = {"gradients": 0, "messages": 0, "input": 0}
    for name, function, is_conditional in collectives(graph):
        if "tfdp_all_reduce" in name:
            purpose = "gradients"
        else:
            is_message = "one_step_on_data" in function
            purpose = "messages" if is_message else "input"
        # What is behind a condition runs at the end of a cycle.
        if is_conditional != (
            purpose == "gradients" and accumulation_steps > 1
        ):
            raise SystemExit(f"Unexpected: {name} in {function}")
        per_step[purpose] += 1
    updates = optimizer.iterations.numpy() * 8 // STEPS
    return {
        "updates": int(updates),
        "gradients": int(updates) * per_step["gradients"],
        "input": 8 * per_step["input"],
        "messages": 8 * per_step["messages"],
        # Of the last cycles, without the votes at an epoch's end.
        "votes": votes_before_step[-1] - votes_before_step[-9],
    }


def collectives(graph):
    """Yields all collectives, where they are, and if behind a condition."""
    functions = {f.signature.name: f.node_def for f in graph.library.function}

    def visit(nodes, function, is_conditional):
        for node in nodes:
            if node.op.startswith("CollectiveReduce"):
                yield node.name, function, is_conditional
            for attribute in node.attr.values():
                name = attribute.func.name
                yield from visit(
                    functions.get(name, []),
                    name or function,
                    is_conditional or "If" in node.op,
                )

    return visit(graph.node, "", False)


def seconds_of_sum(strategy, calls):
    """Returns the median time of summing one number over the workers."""
    import tensorflow as tf

    def on_replica(number):
        context = tf.distribute.get_replica_context()
        return context.all_reduce("SUM", number)

    number = tf.constant(1.0)
    together = tf.function(lambda: strategy.run(on_replica, args=(number,)))
    alone = tf.function(lambda: strategy.run(tf.square, args=(number,)))
    pairs = [(timed(together), timed(alone)) for _ in range(calls + 10)]
    return statistics.median(a - b for a, b in pairs[10:])


def timed(function):
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        return work(*arguments.work)
    import tfdp

    models = list(MODELS)[: 1 if arguments.quick else None]
    calls = 100 if arguments.quick else 1000
    report, *_ = tfdp.testing.run_workers(
        pathlib.Path(__file__).resolve(),
        WORKERS,
        ["--work", ",".join(models), str(calls)],
        timeout=600,
    )
    print_head("model", "accumulation", *COLUMNS, "in all")
    for model_name in models:
        for steps in ACCUMULATION:
            found = report[f"{model_name},{steps}"]
            numbers = [found[column] for column in COLUMNS]
            # Updates are no collectives of their own.
            print_row(model_name, steps, *numbers, sum(numbers[1:]))
    print(
        f"\nA sum of one number: {report['seconds'] * 1e6:,.0f} µs "
        f"between {WORKERS} workers of this machine."
    )
    return None


if __name__ == "__main__":
    main()
