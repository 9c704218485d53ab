"""Time and memory of a micro-step as accumulation grows.

    python benchmarks/accumulation.py [--quick]

Trains 10.5 million parameters with two replicas in one process, at 1 to 64
micro-batches per update, each in a process of its own, in turns of whole
cycles. Beside them runs a model that computes gradients and uses none. Ideally
only the end of a cycle costs more than that: of what an update per step takes,
less the computation, a micro-step would pay its part of the cycle.
"""

import argparse
import pathlib
import resource
import statistics
import sys

from harness.fit_turns import fit_turns
from harness.table import print_head, print_row
from harness.turns import Player, in_turns, ready

STEPS = (1, 2, 4, 8, 16, 32, 64)
REPLICAS, PER_REPLICA_BATCH = 2, 32


def play(steps, *widths):
    """Trains without end, a turn at a time; at 0 steps it never updates."""
    import keras
    import numpy as np
    import tensorflow as tf

    import tfdp

    class GradientsOnly(keras.Sequential):
        def train_step(self, data):
            x, y = data
            with tf.GradientTape() as tape:
                loss = self.compute_loss(y=y, y_pred=self(x, training=True))
            gradients = tape.gradient(loss, self.trainable_variables)
            # A number of each, so that TensorFlow leaves none of them out.
            mean.update_state([tf.reshape(g, [-1])[0] for g in gradients])
            return {"loss": mean.result()}

    strategy = tfdp.MirroredStrategy(tfdp.testing.logical_cpus(REPLICAS))
    with strategy.scope():
        mean = keras.metrics.Mean()
        model = (keras.Sequential if steps else GradientsOnly)(
            [
                keras.Input((widths[0],)),
                *(keras.layers.Dense(width, "relu") for width in widths[1:-1]),
                keras.layers.Dense(widths[-1]),
            ]
        )
        inner = keras.optimizers.SGD(0.01, momentum=0.9)
        optimizer = tfdp.DistributedOptimizer(inner, steps or 1)
        model.compile(optimizer, "mse")

    def facts():
        sums = getattr(optimizer, "_accumulated", [])
        return {
            "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            # Of each replica.
            "accumulators": sum(
                tensor.numpy().nbytes
                for variable in sums
                for tensor in strategy.experimental_local_results(variable)
            )
            // REPLICAS,
            "gradients": 4 * model.count_params(),
        }

    batch = REPLICAS * PER_REPLICA_BATCH
    one = np.ones((batch, widths[0])), np.ones((batch, widths[-1]))
    data = tf.data.Dataset.from_tensors(
        tuple(array.astype("float32") for array in one)
    )
    model.fit(
        data.repeat(),
        steps_per_epoch=10**9,
        shuffle=False,
        verbose=0,
        callbacks=[
            tfdp.callbacks.DataParallel(),
            fit_turns(keras, more=facts),
        ],
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--steps", nargs="+", type=int)
    parser.add_argument("--rounds", type=int)
    parser.add_argument(
        "--widths", nargs="+", type=int, default=[1024, 2048, 2048, 2048, 10]
    )
    parser.add_argument("--play", nargs="+", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.play:
        return play(*arguments.play)
    steps = arguments.steps or ([1, 2, 8] if arguments.quick else STEPS)
    rounds = arguments.rounds or (3 if arguments.quick else 9)
    players = {
        number: Player(
            [sys.executable, pathlib.Path(__file__).resolve(), "--play"]
            + [number, *arguments.widths]
        )
        for number in (0, *steps)
    }
    turn = max(16, *steps)
    with ready(players):
        rows = in_turns(players, turn, rounds)
    answers = {number: [a for (a,) in each] for number, each in rows.items()}
    medians = {
        number: statistics.median(answer["seconds"] / turn for answer in each)
        for number, each in answers.items()
    }
    print_head(
        *("accumulation", "ms per micro-step", "of one at 1", "of the ideal"),
        *("peak memory, MB", "accumulators, MB", "gradients, MB"),
    )
    for number in (0, *steps):
        last = answers[number][-1]
        ideal = medians[0] + (medians[1] - medians[0]) / max(number, 1)
        print_row(
            number or "gradients only",
            f"{medians[number] * 1e3:.1f}",
            f"{medians[number] / medians[1]:.2f}",
            f"{medians[number] / ideal:.2f}" if number else "",
            *(
                f"{last[name] / 1e6:,.1f}"
                for name in ("peak", "accumulators", "gradients")
            ),
        )
    return None


if __name__ == "__main__":
    main()
