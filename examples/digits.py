"""Trains a small convolutional network on images, on whatever there is.

    python examples/digits.py                    # all GPUs, or else the CPU
    python examples/digits.py --logical-cpus 4   # four replicas on one CPU
    tfdp launch --workers 2 examples/digits.py --accumulation 4

The file is the same for one device and for many machines; only who starts it
differs. It ends with a table and a plot. `--dataset` takes any image
classification set of TensorFlow Datasets, `mnist` and `cifar10` among them;
the digits alone need no network.
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

import tfdp
from digits_dataset import prepared

MOMENTUM = 0.9
WEIGHT_DECAY = 1e-4
WARMUP = 0.2  # share of the updates

parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
add = parser.add_argument
add("--dataset", default="digits", metavar="NAME")
add("--per-replica-batch", default=16, type=int, metavar="SAMPLES")
add("--accumulation", default=1, type=int, metavar="MICRO_BATCHES")
add("--epochs", default=30, type=int)
add("--base-rate", default=0.2, type=float, metavar="RATE")
add("--precision", default="auto")
add("--logical-cpus", type=int, metavar="REPLICAS")
add("--seed", default=0, type=int)
add("--data-dir", default="runs/data", metavar="FOLDER")
add("--output", default="runs/digits", type=pathlib.Path, metavar="FOLDER")
args = parser.parse_args()
if args.logical_cpus:
    tfdp.testing.logical_cpus(args.logical_cpus)
keras.utils.set_random_seed(args.seed)
strategy = tfdp.auto_strategy()
builder = prepared(args.dataset, args.data_dir)
shape = builder.info.features["image"].shape
num_classes = builder.info.features["label"].num_classes
num_samples = builder.info.splits["train"].num_examples
train, test = builder.as_dataset(split=["train", "test"], as_supervised=True)
plan = tfdp.BatchPlan(per_replica_batch=args.per_replica_batch, num_replicas=strategy.num_replicas_in_sync, accumulation_steps=args.accumulation)
precision = tfdp.set_precision(args.precision)
updates = plan.updates_per_epoch(num_samples)*args.epochs
warmup=int(WARMUP*updates)
rate = tfdp.linear_scaled_rate(args.base_rate, global_batch=plan.global_batch)
rate = keras.optimizers.schedules.CosineDecay(rate, updates-warmup)
rate = tfdp.WarmupSchedule(rate, warmup)
L = keras.layers
with strategy.scope():
    model = keras.Sequential([
        keras.Input(shape, dtype="uint8"),
        L.Rescaling(1/255),
        L.Conv2D(32, 3, padding="same", activation="relu"),
        L.Conv2D(32, 3, padding="same", activation="relu"),
        L.MaxPooling2D(),
        L.Conv2D(64, 3, padding="same", activation="relu"),
        L.MaxPooling2D(),
        L.Flatten(),
        L.Dense(64, activation="relu"),
        L.Dense(num_classes, dtype="float32"),
        ])
    model.compile(tfdp.DistributedOptimizer(keras.optimizers.SGD(rate, momentum=MOMENTUM, nesterov=True,
        ), accumulation_steps=plan.accumulation_steps),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"])
t=time.time()
h=model.fit(train.cache().shuffle(10_000).batch(plan.micro_batch).prefetch(2), epochs=args.epochs, validation_data=test.cache().batch(plan.micro_batch), callbacks=[tfdp.callbacks.DataParallel()], verbose=0)
print(args.seed, plan.global_batch, precision.policy, args.base_rate, model.optimizer.iterations.numpy(), h.history["val_accuracy"][-1], max(h.history["val_accuracy"]), h.history["val_loss"][-1], h.history["loss"][-1], round(time.time()-t,1))
