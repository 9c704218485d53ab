"""What momentum of the outer optimizer costs where workers do not wait.

    python benchmarks/asynchronous_diloco.py [--quick] [--task text]

Trains a task of the study of large batches on four workers of 16 samples, one
of which is three times as slow as the others, by DiLoCo: with workers that wait
for each other at the end of a round, and with workers that do not. The outer
optimizer is SGD without momentum, with Nesterov's, and `tfdp.DelayedNesterov`.
All see as many samples. Cells are the loss on held-out data, the median over
the seeds, by the rate of the outer optimizer.

Time is simulated, so that the order of updates is the same in every run: a
worker's round takes what it is slow by, and who may read and update is decided
by the rule of `tfdp.asynchronous.staleness`, whose log is kept.
"""

import argparse
import heapq
import statistics
import sys

import keras
import numpy as np
import tensorflow as tf
from harness.table import print_head, print_row
from large_batch import tasks

import tfdp
from tfdp.asynchronous.staleness import Staleness

SECONDS = (1.0, 1.0, 1.0, 3.0)
WORKERS, BATCH, SYNC_EVERY, BOUND = len(SECONDS), 16, 8, 4
INNER = {
    "digits": lambda: keras.optimizers.SGD(0.08, momentum=0.9),
    "text": lambda: keras.optimizers.Adam(0.002),
}
OUTER = {
    "SGD": keras.optimizers.SGD,
    "SGD, Nesterov 0.9": lambda rate: keras.optimizers.SGD(
        rate, momentum=0.9, nesterov=True
    ),
    "DelayedNesterov(0.9)": lambda rate: tfdp.DelayedNesterov(
        rate, momentum=0.9, buffer_size=WORKERS
    ),
}
WAYS = [
    ("wait", "SGD"),
    ("wait", "SGD, Nesterov 0.9"),
    ("do not wait", "SGD"),
    ("do not wait", "SGD, Nesterov 0.9"),
    ("do not wait", "DelayedNesterov(0.9)"),
]
RATES = (0.03, 0.1, 0.3, 0.7)


class Rounds:
    """Makes the local updates of a round, for whoever's turn it is."""

    def __init__(self, task):
        self.model = getattr(tasks, f"{task}_model")()
        self._variables = self.model.trainable_variables
        self._inner = INNER[task]()
        self._inner.build(self._variables)
        self._loss = keras.losses.SparseCategoricalCrossentropy(
            from_logits=True
        )
        self.slots = [v.numpy() for v in self._inner.variables]
        self._make = tf.function(self._updated, jit_compile=True)
        self._judge = tf.function(
            lambda x, y: self._loss(y, self.model(x, training=False))
        )

    def moved(self, weights, slots, batches):
        """Returns what a round has moved, and the slots after it."""
        self._set([*weights, *slots])
        self._make(*batches)
        moved = [
            begun - now.numpy()
            for begun, now in zip(weights, self._variables, strict=True)
        ]
        return moved, [v.numpy() for v in self._inner.variables]

    def judged(self, weights, x, y):
        self._set([*weights, *self.slots])
        return float(self._judge(tf.constant(x), tf.constant(y)))

    def _set(self, values):
        variables = [*self._variables, *self._inner.variables]
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)

    def _updated(self, x, y):
        for step in tf.range(SYNC_EVERY):
            with tf.GradientTape() as tape:
                loss = self._loss(y[step], self.model(x[step], training=True))
            gradients = tape.gradient(loss, self._variables)
            self._inner.apply(gradients, self._variables)


class Server:
    """The weights, and the outer optimizer."""

    def __init__(self, weights, outer):
        self.variables = [keras.Variable(w) for w in weights]
        self._outer = outer
        self._outer.build(self.variables)
        self._apply = tf.function(
            lambda moved: self._outer.apply(moved, self.variables)
        )

    @property
    def weights(self):
        return [v.numpy() for v in self.variables]

    def update(self, moved):
        self._apply([tf.constant(each) for each in moved])


def batches_of(data, seed, epochs):
    """Yields the batches of one round after another."""
    random = np.random.default_rng(seed)
    count = len(data[0]) // BATCH
    rows = np.concatenate(
        [
            random.permutation(len(data[0]))[: count * BATCH]
            for _ in range(epochs)
        ]
    )
    size = SYNC_EVERY * BATCH
    for at in range(0, len(rows) - size + 1, size):
        of_round = rows[at : at + size].reshape(SYNC_EVERY, BATCH)
        yield [tf.constant(each[of_round]) for each in data]


def train_waiting(rounds, server, each):
    """Makes an update of the mean of what all have moved."""
    slots = [rounds.slots] * WORKERS
    for together in zip(*[each] * WORKERS, strict=False):
        weights, all_moved = server.weights, []
        for worker, batches in enumerate(together):
            moved, slots[worker] = rounds.moved(weights, slots[worker], batches)
            all_moved.append(moved)
        server.update(
            [np.mean(of_all, axis=0) for of_all in zip(*all_moved, strict=True)]
        )


def train_apart(rounds, server, each):
    """Makes an update of what each has moved; returns the log."""
    staleness = Staleness(BOUND)
    reads, waiting, running = {}, [], []
    slots = [rounds.slots] * WORKERS
    for worker in range(WORKERS):
        staleness.join(worker)

    def begin(worker, now):
        batches = next(each, None)
        if batches is None:
            return
        reads[worker] = staleness.read(worker)
        moved, slots[worker] = rounds.moved(
            server.weights, slots[worker], batches
        )
        heapq.heappush(running, (now + SECONDS[worker], worker, moved))

    def leaves_room(worker):
        others = sorted(r for w, r in reads.items() if w != worker)
        return all(
            staleness.version + 1 + place <= read + BOUND
            for place, read in enumerate(others)
        )

    for worker in range(WORKERS):
        begin(worker, 0.0)
    while running:
        now, worker, moved = heapq.heappop(running)
        waiting.append((worker, moved))
        while may := [each for each in waiting if leaves_room(each[0])]:
            waiting.remove(may[0])
            worker, moved = may[0]
            del reads[worker]
            staleness.update(
                worker, step=0, apply=lambda moved=moved: server.update(moved)
            )
            begin(worker, now)
    return staleness.log


def run(task, way, outer, rate, seed, epochs, rounds, data):
    """Returns the loss on held-out data, and how stale the updates were."""
    train, held_out = data
    keras.utils.set_random_seed(seed)
    model = getattr(tasks, f"{task}_model")()
    weights = [v.numpy() for v in model.trainable_variables]
    server = Server(weights, OUTER[outer](rate))
    each, stale = batches_of(train, seed, epochs), [0]
    if way == "wait":
        train_waiting(rounds, server, each)
    else:
        log = train_apart(rounds, server, each)
        stale = [update.staleness for update in log]
    loss = rounds.judged(server.weights, *held_out)
    return loss, statistics.mean(stale), max(stale)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    flag = parser.add_argument
    flag("--task", choices=INNER, default="text", help="[%(default)s]")
    flag("--seeds", type=int, default=3, help="runs of each [%(default)s]")
    flag("--epochs", type=int, default=12, help="[%(default)s]")
    flag("--quick", action="store_true", help="one run of each, and short")
    arguments = parser.parse_args()
    task, epochs, seeds = arguments.task, arguments.epochs, arguments.seeds
    rates = RATES
    if arguments.quick:
        epochs, seeds, rates = 1, 1, (0.3,)
    rounds = Rounds(task)
    data = getattr(tasks, task)()
    rows, stale = [], []
    for way, outer in WAYS:
        cells = []
        for rate in rates:
            found = [
                run(task, way, outer, rate, seed, epochs, rounds, data)
                for seed in range(seeds)
            ]
            losses, means, most = zip(*found, strict=True)
            cells.append(f"{statistics.median(losses):.3f}")
            stale.append((means[0], most[0]))
            print(way, outer, rate, losses, file=sys.stderr, flush=True)
        rows.append((way, outer, *cells))
    mean, most = stale[-1]
    print(
        f"\n### {task}, {epochs} epochs, rounds of {SYNC_EVERY} updates; "
        f"staleness where workers do not wait: {mean:.1f} on average, at most "
        f"{most}\n"
    )
    print_head("workers", "outer optimizer", *(f"{r:g}" for r in rates))
    for row in rows:
        print_row(*row)


if __name__ == "__main__":
    main()
