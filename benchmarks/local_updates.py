"""What updates that replicas make alone cost in loss and accuracy.

    python benchmarks/local_updates.py [--quick] [--jobs 2]
    python benchmarks/local_updates.py --table

Trains the two tasks of the study of large batches on four replicas with 16
samples each, as many samples in all: synchronously, by `LocalSGD` and by
`DiLoCo`, with means after 1, 4, 16 and 64 updates. Every run is a process of
its own with one core, and adds a line to `runs.jsonl` in the output folder.
Runs that have their line are not repeated. Cells are medians over the seeds,
and the range.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import statistics
import subprocess
import sys

from harness.table import print_head, print_row
from large_batch import tasks

REPLICAS, PER_REPLICA_BATCH = 4, 16
# As the study of large batches tuned them, at 64 samples by its linear and
# square-root rules; the outer optimizer is the paper's.
INNER = {"digits": ("SGD", 0.08), "text": ("Adam", 0.002)}
OUTER_RATE, OUTER_MOMENTUM = 0.7, 0.9
EPOCHS = {"digits": 20, "text": 20}
SYNC_EVERY = (1, 4, 16, 64)
WARMUP = 0.1


def train(task, way, sync_every, seed, epochs):
    """Returns what came out of a run, ready for JSON."""
    import keras
    import tensorflow as tf

    import tfdp

    devices = tfdp.testing.logical_cpus(REPLICAS)
    keras.utils.set_random_seed(seed)
    data, held_out = getattr(tasks, task)()
    batch = REPLICAS * PER_REPLICA_BATCH
    updates = epochs * -(-len(data[0]) // batch)
    rate = tfdp.WarmupSchedule(
        keras.optimizers.schedules.CosineDecay(
            INNER[task][1], updates - round(WARMUP * updates)
        ),
        round(WARMUP * updates),
    )
    inner = {
        "SGD": lambda: keras.optimizers.SGD(rate, momentum=0.9),
        "Adam": lambda: keras.optimizers.Adam(rate),
    }[INNER[task][0]]()
    outer = keras.optimizers.SGD(
        OUTER_RATE, momentum=OUTER_MOMENTUM, nesterov=True
    )
    synchronization = {
        "synchronous": lambda: None,
        "LocalSGD": lambda: tfdp.LocalSGD(sync_every),
        "DiLoCo": lambda: tfdp.DiLoCo(outer, sync_every),
    }[way]()
    with tfdp.MirroredStrategy(devices).scope():
        model = getattr(tasks, f"{task}_model")()
        model.compile(
            tfdp.DistributedOptimizer(inner, synchronization=synchronization),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
    dataset = tf.data.Dataset.from_tensor_slices(data)
    # One epoch of `fit`, since its end would end a round.
    model.fit(
        dataset.shuffle(len(data[0]), seed=seed).batch(batch).repeat(epochs),
        shuffle=False,
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel()],
    )
    judged = model.evaluate(
        tf.data.Dataset.from_tensor_slices(held_out).batch(batch),
        verbose=0,
        return_dict=True,
    )
    return {"accuracy": judged["accuracy"], "loss": judged["loss"]}


def planned(names, sync_every, seeds, epochs):
    ways = [("synchronous", 1)]
    ways += [(way, h) for way in ("LocalSGD", "DiLoCo") for h in sync_every]
    return [
        (task, *way, seed, epochs[task])
        for task in names
        for way in ways
        for seed in seeds
    ]


def in_own_process(run):
    environment = {
        **os.environ,
        "CUDA_VISIBLE_DEVICES": "",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_NUM_INTRAOP_THREADS": "1",
    }
    command = [sys.executable, __file__, "--run", json.dumps(run)]
    result = subprocess.run(
        command, env=environment, capture_output=True, text=True
    )
    if result.returncode:
        raise RuntimeError(f"{run} failed:\n{result.stderr[-4000:]}")
    return json.loads(result.stdout.splitlines()[-1])


def on_file(path):
    """Returns the outcomes on file, by their runs."""
    if not path.exists():
        return {}
    lines = map(json.loads, path.read_text().splitlines())
    return {tuple(line.pop("run")): line for line in lines}


def complete(runs, path, num_jobs):
    """Runs what is not on file, and puts it there."""
    missing = [run for run in runs if run not in on_file(path)]
    with concurrent.futures.ThreadPoolExecutor(num_jobs) as pool:
        running = {pool.submit(in_own_process, run): run for run in missing}
        for place, future in enumerate(
            concurrent.futures.as_completed(running), start=1
        ):
            run, outcome = running[future], future.result()
            with path.open("a") as file:
                file.write(json.dumps({"run": run, **outcome}) + "\n")
            print(f"{place}/{len(missing)} {run}", file=sys.stderr, flush=True)


def print_tables(outcomes):
    for task in dict.fromkeys(task for task, *_ in outcomes):
        groups = {}
        for (name, way, h, *_), outcome in outcomes.items():
            if name == task:
                groups.setdefault((way, h), []).append(outcome)
        epochs = next(run[-1] for run in outcomes if run[0] == task)
        print(f"\n### {task}, {epochs} epochs\n")
        print_head("way", "sync_every", "held-out accuracy", "held-out loss")
        for (way, h), found in groups.items():
            print_row(
                way,
                "" if way == "synchronous" else str(h),
                spread([100 * each["accuracy"] for each in found], "%", 1),
                spread([each["loss"] for each in found], "", 3),
            )


def spread(values, unit, digits):
    low, middle, high = min(values), statistics.median(values), max(values)
    texts = [f"{v:.{digits}f}{unit}" for v in (middle, low, high)]
    return "{} ({}–{})".format(*texts)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    flag = parser.add_argument
    flag("--task", choices=INNER, help="one of the two [both]")
    flag("--seeds", type=int, default=3, help="runs of each [%(default)s]")
    flag("--jobs", type=int, default=1, help="runs at a time [%(default)s]")
    flag("--quick", action="store_true", help="few runs of few epochs")
    flag("--table", action="store_true", help="train nothing")
    flag("--output", default="runs/local_updates", help="[%(default)s]")
    flag("--run", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        print(json.dumps(train(*arguments.run)))
        return
    output = pathlib.Path(arguments.output)
    output.mkdir(parents=True, exist_ok=True)
    quick = arguments.quick
    runs = planned(
        [arguments.task] if arguments.task else list(INNER),
        (4,) if quick else SYNC_EVERY,
        range(1 if quick else arguments.seeds),
        dict.fromkeys(EPOCHS, 2) if quick else EPOCHS,
    )
    file = output / "runs.jsonl"
    if not arguments.table:
        complete(runs, file, arguments.jobs)
    outcomes = on_file(file)
    print_tables({run: outcomes[run] for run in runs if run in outcomes})


if __name__ == "__main__":
    main()
