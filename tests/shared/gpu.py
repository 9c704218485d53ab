"""Checks on a real GPU what tests check on logical CPUs, and prints a table.

`python tests/shared/gpu.py` says so, and ends well, where there is none;
`--on-cpus` runs the same cases on two logical CPUs, and says that, too. A case
compares with plain Keras on one device of the same kind.
"""

import argparse
import contextlib
import sys
import time

import cards
import keras
import numpy as np
import problem
import settings

import tfdp
from tfdp.throughput.breakdown import PARTS

SETTINGS = (
    "SGD,plain,dense,mean,2,1,193,float32",
    "SGD,clipnorm,embedding,sample_weight,2,2,193,float32",
    "SGD,plain,conv,class_weight,2,1,240,float32",
)
# Of weights; kernels of GPUs add up in another order than the oracle's.
BOUND, BOUND_OF_HALF = 1e-5, 5e-3
FIRST_SCALE = 2.0**30


def trained(strategy, setting, *, jit_compile=False):
    """Trains as a setting says; returns how far weights are from one device."""
    keras.config.set_dtype_policy(setting.precision)
    with strategy.scope():
        model = settings.make_model(setting)
        optimizer = tfdp.DistributedOptimizer(
            settings.make_optimizer(setting),
            setting.steps,
            initial_scale=2.0**10,
        )
        loss, _ = settings.make_loss(setting)
        model.compile(optimizer, loss, jit_compile=jit_compile)
    model.fit(
        settings.dataset(setting, settings.GLOBAL_BATCH // setting.steps),
        epochs=settings.EPOCHS,
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel()],
        **settings.fit_arguments(setting),
    )
    weights, _, updates = settings.oracle_of(setting)
    if int(optimizer.iterations.numpy()) != updates:
        raise AssertionError(f"{optimizer.iterations.numpy()} updates")
    return settings.deviation(model.get_weights(), weights)


def parity(strategy, precision="float32", **options):
    return max(
        trained(
            strategy,
            settings.read(each.replace("float32", precision)),
            **options,
        )
        for each in SETTINGS
    )


def exact(strategy, _):
    found = parity(strategy)
    return f"{found:.0e}", f"up to {BOUND:.0e}", found <= BOUND


def bfloat16(strategy, _):
    found = parity(strategy, "mixed_bfloat16")
    return f"{found:.0e}", f"up to {BOUND_OF_HALF:.0e}", found <= BOUND_OF_HALF


def compiled(strategy, _):
    found = parity(strategy, jit_compile=True)
    times = strategy.compile_times.count
    return (
        f"{found:.0e}, compiled {times} times",
        f"up to {BOUND:.0e}, compiled",
        found <= BOUND and times >= 2,
    )


def overflow(strategy, _):
    """Halves the loss scale as plain Keras does, on all replicas alike."""
    keras.config.set_dtype_policy("mixed_float16")
    setting = settings.read("SGD,plain,dense,mean,2,1,240,mixed_float16")
    scales, weights = [], []
    for is_plain in (True, False):
        with contextlib.nullcontext() if is_plain else strategy.scope():
            model = settings.make_model(setting)
            inner = keras.optimizers.SGD(0.05)
            optimizer = (
                keras.optimizers.LossScaleOptimizer(inner, FIRST_SCALE)
                if is_plain
                else tfdp.DistributedOptimizer(inner, initial_scale=FIRST_SCALE)
            )
            model.compile(optimizer, settings.make_loss(setting)[0])
        model.fit(
            settings.dataset(setting, settings.GLOBAL_BATCH),
            epochs=2 * settings.EPOCHS,
            verbose=0,
        )
        scales.append(float(optimizer.dynamic_scale.numpy()))
        weights.append(model.get_weights())
    found = settings.deviation(*weights)
    halvings = int(np.log2(FIRST_SCALE / scales[1]))
    apart = max(map(distance, [strategy] * len(model.weights), model.weights))
    return (
        f"{halvings} halvings, {found:.0e}; replicas {apart:.0e} apart",
        f"those of plain Keras, up to {BOUND_OF_HALF:.0e}; 0 apart",
        scales[0] == scales[1] < FIRST_SCALE
        and found <= BOUND_OF_HALF
        and apart == 0,
    )


def bounds(strategy, devices):
    """Adds up the parts of a step, which are bounds on a GPU, and says so."""
    monitor = tfdp.callbacks.ThroughputMonitor(verbose=0)
    keras.config.set_dtype_policy("float32")
    with strategy.scope():
        model = problem.make_model()
        optimizer = tfdp.DistributedOptimizer(keras.optimizers.SGD(0.05))
        model.compile(optimizer, "mse")
    model.fit(
        problem.dataset(64 * 64, 64),
        epochs=3,
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel(), monitor],
    )
    total = monitor.total
    parts = [
        sum(getattr(total.breakdown, part)[replica] for part in PARTS)
        for replica in range(2)
    ]
    share = max(parts) / max(total.rates.seconds)
    kind = "bounds" if total.is_bound else "measured"
    wanted = "bounds" if devices.kind == "GPU" else "measured"
    return (
        f"{kind}; parts are {share:.0%} of a step",
        f"{wanted}; at most 100%",
        kind == wanted and 0 < share < 1.001,
    )


def distance(strategy, weight):
    first, *others = strategy.experimental_local_results(weight.value)
    return max(
        float(np.abs(each.numpy() - first.numpy()).max()) for each in others
    )


CASES = {
    "parity": exact,
    "mixed_float16, overflow": overflow,
    "mixed_bfloat16": bfloat16,
    "compiled replicas": compiled,
    "monitor's bounds": bounds,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--on-cpus", action="store_true")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES)
    arguments = parser.parse_args()
    devices = cards.set_up(on_cpus=arguments.on_cpus)
    if devices is None:
        print(
            "No GPU that TensorFlow sees: nothing was run. With a card, "
            "`pip install 'tensorflow[and-cuda]'` brings what it needs; "
            "`--on-cpus` runs the same on logical CPUs."
        )
        return 0
    print(f"Seen on: {devices.words}\n")
    print("| Case | Device | Wanted | Seen | Holds |")
    print("| --- " * 5 + "|")
    failed = 0
    for name in arguments.cases:
        begin = time.perf_counter()
        try:
            seen, wanted, holds = CASES[name](
                tfdp.MirroredStrategy(devices.names, devices.cross_device_ops),
                devices,
            )
        except Exception as error:
            line = str(error).strip().partition("\n")[0]
            seen, wanted, holds = f"{type(error).__name__}: {line}", "", False
        failed += not holds
        cells = (name, devices.words, wanted, seen, "yes" if holds else "NO")
        print(f"| {' | '.join(cells)} |", flush=True)
        seconds = time.perf_counter() - begin
        print(f"{name}: {seconds:.0f} s", file=sys.stderr)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
