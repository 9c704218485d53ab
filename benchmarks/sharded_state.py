"""Time and memory of an update whose state replicas have shared out.

    python benchmarks/sharded_state.py [--quick]

Makes updates of Adam on two replicas in one process: gradients are summed over
the replicas, averaged, and used, without any model. What making up the
gradients takes is measured beside it and subtracted. Each way is a process of
its own, so that its peak of memory is its own; the ways take turns.
"""

import argparse
import resource
import statistics
import sys
import time

from harness.table import print_head, print_row
from harness.turns import Player, in_turns, ratio_of_medians, ready, serve

REPLICAS = 2
VARIABLES = 20
WAYS = {
    "every replica holds all": None,
    "`ShardedState()`": {},
    "`ShardedState(gradients=True)`": {"gradients": True},
}
# Keras's Adam keeps two numbers for each.
PARAMETERS, SMALL_PARAMETERS = 20 * 10**6, 10**6


def play(way, num_parameters):
    """Answers each turn with seconds of an update, and bytes."""
    import keras
    import tensorflow as tf

    import tfdp

    side = num_parameters // VARIABLES
    options = WAYS[way]
    synchronization = None
    if options is not None:
        synchronization = tfdp.ShardedState(**options)
    strategy = tfdp.MirroredStrategy(tfdp.testing.logical_cpus(REPLICAS))
    with strategy.scope():
        variables = [
            keras.Variable(tf.zeros((side,)), name=f"v{i}")
            for i in range(VARIABLES)
        ]
        optimizer = tfdp.DistributedOptimizer(
            keras.optimizers.Adam(1e-3), synchronization=synchronization
        )
        optimizer.build(variables)
        # Unknown to the graph, or it would hold the gradients themselves.
        value = tf.Variable(1e-3, trainable=False)

    def gradients():
        return [tf.fill((side,), value.read_value()) for _ in variables]

    def only_gradients(batch):
        # One number of each, so that TensorFlow leaves none of them out.
        return tf.add_n([g[side // 2] for g in gradients()])

    def updates(batch):
        optimizer.apply(gradients(), variables)

    batch = tf.ones((1,))
    without, update = (
        tf.function(lambda step=step: strategy.run(step, args=(batch,)))
        for step in (only_gradients, updates)
    )

    def turn(updates):
        seconds = seconds_of(update, updates) - seconds_of(without, updates)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return {
            "seconds": seconds,
            "state": optimizer.state_bytes(),
            "peak": peak,
        }

    turn(1)
    serve(turn)


def seconds_of(function, repetitions):
    begin = time.perf_counter()
    for _ in range(repetitions):
        function()
    return (time.perf_counter() - begin) / repetitions


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--one", nargs=2)
    arguments = parser.parse_args()
    if arguments.one:
        way, num_parameters = arguments.one
        play(way, int(num_parameters))
        return
    size = SMALL_PARAMETERS if arguments.quick else PARAMETERS
    rounds = arguments.rounds or (3 if arguments.quick else 15)
    players = {
        way: Player([sys.executable, __file__, "--one", way, size])
        for way in WAYS
    }
    with ready(players):
        answers = in_turns(players, 5, rounds)
    print_head(
        "Adam",
        "ms per update",
        "of the time",
        "MB of state per replica",
        "peak MB of the process",
        more=(f"{size:,} parameters", f"{REPLICAS} replicas"),
    )
    seconds = {
        way: [answer["seconds"] for (answer,) in of_rounds]
        for way, of_rounds in answers.items()
    }
    whole = next(iter(seconds.values()))
    for way, of_rounds in answers.items():
        (last,) = of_rounds[-1]
        print_row(
            way,
            f"{statistics.median(seconds[way]) * 1e3:.1f}",
            f"{ratio_of_medians(seconds[way], whole):.2f}",
            ", ".join(f"{held / 1e6:.1f}" for held in last["state"]),
            f"{last['peak'] / 1e6:.0f}",
        )


if __name__ == "__main__":
    main()
