"""Trains a small convolutional network to read digits, on whatever there is.

    python examples/digits.py                    # all GPUs, or else the CPU
    python examples/digits.py --logical-cpus 4   # four replicas on one CPU
    tfdp launch --workers 2 examples/digits.py --accumulation 4

One file for one device and for many machines: who starts it decides. It ends
with a table and a plot. `--dataset` takes any image classification set of
TensorFlow Datasets; all but the digits need a network.
"""

import argparse
import pathlib
import time

import keras
import matplotlib.figure
import matplotlib.ticker
import rich.console
import rich.table
import tensorflow as tf
from digits_dataset import prepared
from keras import layers

import tfdp

BASE_BATCH = 32  # the batch that --base-rate is for
MOMENTUM = 0.9
WARMUP = 0.2  # share of all updates
DROPOUT = 0.5
PRECISIONS = ("auto", "float32", "mixed_bfloat16", "mixed_float16")

parser = argparse.ArgumentParser(
    description=__doc__.partition("\n")[0],
    formatter_class=argparse.ArgumentDefaultsHelpFormatter,
)
flag = parser.add_argument
flag("--dataset", default="digits", help="a name known to TFDS")
flag("--per-replica-batch", type=int, default=32, help="samples at a time")
flag("--accumulation", type=int, default=1, help="micro-batches per update")
flag("--epochs", type=int, default=30, help="passes over the data")
flag("--base-rate", type=float, default=0.02, help=f"for {BASE_BATCH} samples")
flag("--precision", choices=PRECISIONS, default="auto", help="dtype policy")
flag("--logical-cpus", type=int, help="replicas to split the CPU into")
flag("--seed", type=int, default=0, help="for weights, shuffling and dropout")
flag("--data-dir", type=pathlib.Path, default="runs/data", help="datasets")
flag("--output", type=pathlib.Path, default="runs/digits", help="for the plot")
args = parser.parse_args()

try:
    if args.logical_cpus is not None:
        tf.config.set_visible_devices([], "GPU")
        tfdp.testing.logical_cpus(args.logical_cpus)
    keras.utils.set_random_seed(args.seed)
    # A strategy over several workers must come before all else.
    strategy = tfdp.auto_strategy()
    plan = tfdp.BatchPlan(
        per_replica_batch=args.per_replica_batch,
        num_replicas=strategy.num_replicas_in_sync,
        accumulation_steps=args.accumulation,
    )
    peak_rate = tfdp.linear_scaled_rate(
        args.base_rate, global_batch=plan.global_batch, base_batch=BASE_BATCH
    )
    builder = prepared(args.dataset, args.data_dir)
    precision = tfdp.set_precision(args.precision)
except (ValueError, RuntimeError) as error:
    parser.error(str(error))

train, test = builder.as_dataset(split=["train", "test"], as_supervised=True)
updates = args.epochs * plan.updates_per_epoch(len(train))
warmup_updates = int(WARMUP * updates)

if strategy.is_chief:
    print(f"{plan}; peak rate {peak_rate:g}")

with strategy.scope():
    model = keras.Sequential(
        [
            keras.Input(builder.info.features["image"].shape, dtype="uint8"),
            layers.Rescaling(1 / 255),
            layers.Conv2D(32, 3, padding="same", activation="relu", kernel_initializer="he_normal"),
            layers.Conv2D(64, 3, padding="same", activation="relu", kernel_initializer="he_normal"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dropout(DROPOUT),
            layers.Dense(128, activation="relu", kernel_initializer="he_normal"),
            layers.Dropout(DROPOUT),
            layers.Dense(builder.info.features["label"].num_classes, dtype="float32"),
        ]
    )
    decay = keras.optimizers.schedules.CosineDecay(
        peak_rate, updates - warmup_updates
    )
    rate = tfdp.WarmupSchedule(decay, warmup_updates)
    model.compile(
        optimizer=tfdp.DistributedOptimizer(
            keras.optimizers.SGD(rate, momentum=MOMENTUM),
            accumulation_steps=plan.accumulation_steps,
        ),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )

throughput = tfdp.callbacks.ThroughputMonitor()
started = time.perf_counter()
history = model.fit(
    train.cache().shuffle(10_000).batch(plan.micro_batch).prefetch(2),
    epochs=args.epochs,
    validation_data=test.cache().batch(plan.micro_batch),
    callbacks=[tfdp.callbacks.DataParallel(), throughput],
    shuffle=False,
    verbose=2,
).history
seconds = time.perf_counter() - started
print(history["val_accuracy"][-1], seconds)
