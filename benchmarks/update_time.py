"""Time of an update as parameters and variables grow.

    python benchmarks/update_time.py [--quick]

Makes updates of SGD with momentum on two replicas in one process: gradients
are summed over the replicas, averaged, and used, without any model. What making
up the gradients takes is measured beside it and subtracted. First parameters
grow in 10 variables, then variables of 10 million parameters; all sizes take
turns. The exponent is that of the power of parameters which fits best: 1 is
linear. A second table has an update of many small variables over one of ten,
by wall time and by CPU time, with SGD and with Adam, and what plain Keras takes
for it on one device.
"""

import argparse
import math
import statistics
import time

from harness.table import print_head, print_row

REPLICAS = 2
# Parameters and variables.
PARAMETERS = [(n * 10**6, 10) for n in (1, 3, 10, 30, 100)]
VARIABLES = [(10**7, n) for n in (10, 100, 1000)]
SMALL_PARAMETERS = [(n * 10**5, 10) for n in (1, 3, 10, 30)]
SMALL_VARIABLES = [(10**6, n) for n in (10, 100)]


def steps_of(strategy, num_parameters, num_variables, kind="SGD"):
    """Returns functions that make gradients, and also update with them."""
    import keras
    import tensorflow as tf

    import tfdp

    kinds = {
        "SGD": lambda: keras.optimizers.SGD(1e-3, momentum=0.9),
        "Adam": lambda: keras.optimizers.Adam(1e-3),
    }
    is_plain = strategy.num_replicas_in_sync == 1
    side = max(num_parameters // num_variables, 1)
    with strategy.scope():
        variables = [
            keras.Variable(tf.zeros((side,)), name=f"v{i}")
            for i in range(num_variables)
        ]
        optimizer = kinds[kind]()
        if not is_plain:
            optimizer = tfdp.DistributedOptimizer(optimizer)
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
    return [
        tf.function(lambda step=step: strategy.run(step, args=(batch,)))
        for step in (only_gradients, updates)
    ]


def seconds_of(function, repetitions, clock=time.perf_counter):
    begin = clock()
    for _ in range(repetitions):
        function()
    return (clock() - begin) / repetitions


def both_of(function, repetitions):
    """Returns wall and CPU seconds."""
    used = time.process_time()
    wall = seconds_of(function, repetitions)
    return wall, (time.process_time() - used) / repetitions


def print_many(strategy, sizes, rounds):
    """Prints what many small variables take over few large ones."""
    import tensorflow as tf

    few, *_, many = sizes
    where = {
        "tfdp, two replicas": strategy,
        "Keras, one device": tf.distribute.get_strategy(),
    }
    steps = {
        (name, kind, size): steps_of(where[name], *size, kind)
        for name in where
        for kind in ("SGD", "Adam")
        for size in (few, many)
    }
    found = {key: [] for key in steps}
    for _ in range(rounds + 1):
        for key, (without, update) in steps.items():
            repetitions = max(4 * 10**7 // key[2][0], 1)
            bases = both_of(without, repetitions)
            taken = both_of(update, repetitions)
            found[key].append(
                [t - b for t, b in zip(taken, bases, strict=True)]
            )
    medians = {
        key: [statistics.median(each) for each in zip(*f[1:], strict=True)]
        for key, f in found.items()
    }
    print()
    print_row(
        *("", "optimizer", f"ms for {few[1]}", f"ms for {many[1]:,}", "ratio"),
        *("CPU ms", "CPU ms", "ratio"),
    )
    print_row(*["---"] * 8)
    for name, kind in dict.fromkeys(key[:2] for key in steps):
        cells = []
        for place in range(2):
            two = [medians[name, kind, size][place] for size in (few, many)]
            cells += [f"{x * 1e3:.1f}" for x in two]
            cells.append(f"{two[1] / max(two[0], 1e-9):.2f}")
        print_row(name, kind, *cells)


def exponent(sizes, seconds):
    """Returns the slope of the line through logarithms."""
    logarithms = [math.log(s) for s in sizes], [math.log(s) for s in seconds]
    return statistics.linear_regression(*logarithms).slope


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int)
    arguments = parser.parse_args()
    import tfdp

    strategy = tfdp.MirroredStrategy(tfdp.testing.logical_cpus(REPLICAS))
    growing, splitting = PARAMETERS, VARIABLES
    if arguments.quick:
        growing, splitting = SMALL_PARAMETERS, SMALL_VARIABLES
    rounds = arguments.rounds or (3 if arguments.quick else 15)
    # The case that both share is measured once.
    steps = {
        size: steps_of(strategy, *size)
        for size in dict.fromkeys(growing + splitting)
    }
    found = {size: [] for size in steps}
    for _ in range(rounds + 1):
        for size, (without, update) in steps.items():
            # Of small updates several, as long as a large one.
            repetitions = max(10**7 // size[0], 1)
            base = seconds_of(without, repetitions)
            found[size].append(seconds_of(update, repetitions) - base)
    medians = {size: statistics.median(f[1:]) for size, f in found.items()}
    print_head("parameters", "variables", "ms per update", "ns per parameter")
    for size in (*growing, *splitting):
        seconds = medians[size]
        print_row(
            *(f"{number:,}" for number in size),
            *(f"{seconds * 1e3:.2f}", f"{seconds / size[0] * 1e9:.2f}"),
        )
    sizes = [size[0] for size in growing]
    power = exponent(sizes, [max(medians[size], 1e-9) for size in growing])
    print(f"\nTime grows as parameters to the power of {power:.2f}.")
    print_many(strategy, splitting, rounds)


if __name__ == "__main__":
    main()
