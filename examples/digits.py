"""Trains a small convolutional network to read digits, on whatever there is.

    python examples/digits.py                    # all GPUs, or else the CPU
    python examples/digits.py --logical-cpus 4   # four replicas on one CPU
    tfdp launch --workers 2 examples/digits.py --accumulation 4

One file for one device and for many machines: who starts it decides. It ends
with a table and a plot. `--dataset` takes any image classification set of
TensorFlow Datasets; all but `digits` are downloaded.
"""

import argparse
import pathlib
import time

import keras
import rich.console
import rich.table
import tensorflow as tf
import tensorflow_datasets as tfds
from digits_dataset import prepared
from keras import layers
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

import tfdp

BASE_BATCH = 32  # samples behind an update at which --base-rate is right
WARMUP = 0.2  # share of the updates
MOMENTUM = 0.9
DROPOUT = 0.5
RELU = {"activation": "relu", "kernel_initializer": "he_normal"}
SHUFFLE_BUFFER = 50_000

parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
flag = parser.add_argument
flag("--dataset", default="digits", help="such as mnist, cifar10 [%(default)s]")
flag("--per-replica-batch", type=int, default=32, help="samples [%(default)s]")
flag("--accumulation", type=int, default=1, help="micro-batches [%(default)s]")
flag("--epochs", type=int, default=30, help="[%(default)s]")
flag(
    "--base-rate", type=float, default=0.02, help="learning rate [%(default)s]"
)
flag("--precision", default="auto", help="dtype policy [%(default)s]")
flag("--logical-cpus", type=int, help="replicas to make out of the CPU")
flag("--seed", type=int, default=0, help="[%(default)s]")
flag("--data-dir", default="runs/data", help="[%(default)s]")
flag(
    "--output",
    default="runs/digits",
    help="folder of plot and log [%(default)s]",
)
args = parser.parse_args()

output = pathlib.Path(args.output)
try:
    output.mkdir(parents=True, exist_ok=True)
    if args.epochs < 1:
        raise ValueError(f"--epochs must be at least 1, not {args.epochs}")
    if args.logical_cpus is not None:
        tf.config.set_visible_devices([], "GPU")
        tfdp.testing.logical_cpus(args.logical_cpus)
    keras.utils.set_random_seed(args.seed)
    precision = tfdp.set_precision(args.precision)
    strategy = tfdp.auto_strategy()
    plan = tfdp.BatchPlan(
        per_replica_batch=args.per_replica_batch,
        num_replicas=strategy.num_replicas_in_sync,
        accumulation_steps=args.accumulation,
    )
    peak_rate = tfdp.linear_scaled_rate(
        args.base_rate, global_batch=plan.global_batch, base_batch=BASE_BATCH
    )
    data = prepared(args.dataset, args.data_dir)
    # TFDS keeps what it reads in memory, if it is small: as it lies on disk,
    # since each worker decodes its own images, after they were shuffled.
    train, test = data.as_dataset(
        split=["train", "test"],
        as_supervised=True,
        decoders={"image": tfds.decode.SkipDecoding()},
    )
except (OSError, ValueError) as error:
    parser.error(str(error))

updates = args.epochs * plan.updates_per_epoch(len(train))
warmup = int(WARMUP * updates)


def batches(images):
    """Reads images by micro-batches, of which each worker decodes its own."""
    return (
        images.apply(tfdp.shard)
        .map(decoded, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(plan.micro_batch)
        .prefetch(2)
    )


def decoded(image, label):
    return data.info.features["image"].decode_example(image), label


with strategy.scope():
    model = keras.Sequential(
        [
            keras.Input(data.info.features["image"].shape, dtype="uint8"),
            layers.Rescaling(1 / 255),
            layers.Conv2D(32, 3, padding="same", **RELU),
            layers.Conv2D(64, 3, padding="same", **RELU),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dropout(DROPOUT),
            layers.Dense(128, **RELU),
            layers.Dropout(DROPOUT),
            layers.Dense(
                data.info.features["label"].num_classes, dtype="float32"
            ),
        ]
    )
    rate = tfdp.WarmupSchedule(
        keras.optimizers.schedules.CosineDecay(peak_rate, updates - warmup),
        warmup,
    )
    model.compile(
        optimizer=tfdp.DistributedOptimizer(
            keras.optimizers.SGD(rate, momentum=MOMENTUM),
            accumulation_steps=plan.accumulation_steps,
        ),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )


def print_epoch(epoch, logs):
    """Prints a line, where Keras prints two."""
    print(
        f"epoch {epoch + 1:{len(str(args.epochs))}}/{args.epochs}"
        f" | loss {logs['loss']:.4f}"
        f" | held out: loss {logs['val_loss']:.4f}"
        f", accuracy {logs['val_accuracy']:.4f}"
        f" | {logs['samples_per_second']:,.0f} samples/s",
        flush=True,
    )


throughput = tfdp.callbacks.ThroughputMonitor(verbose=0)
callbacks = [
    tfdp.callbacks.DataParallel(),
    tfdp.callbacks.LearningRateMonitor(),
    throughput,
    tfdp.callbacks.RunLogger(output, every=10),
]
if strategy.is_chief:
    print(f"{plan}, learning rate up to {peak_rate:g}")
    callbacks.append(keras.callbacks.LambdaCallback(on_epoch_end=print_epoch))

start = time.perf_counter()
history = model.fit(
    batches(train.shuffle(SHUFFLE_BUFFER)),
    epochs=args.epochs,
    validation_data=batches(test),
    callbacks=callbacks,
    shuffle=False,
    verbose=0,
).history
seconds = time.perf_counter() - start

if strategy.is_chief:
    accuracy = history["val_accuracy"][-1]
    rates = throughput.rates

    table = rich.table.Table(show_header=False, title=f"{args.dataset}")
    for row in [
        ("held-out accuracy", f"{accuracy:.4f} ({len(test):,} images)"),
        ("samples/s in total", f"{rates.samples_per_second:,.0f}"),
        ("samples/s per worker", *map("{:,.0f}".format, rates.by_worker)),
        ("samples/s per replica", *map("{:,.0f}".format, rates.by_replica)),
        ("workers", f"{strategy.num_workers}"),
        ("replicas", f"{plan.num_replicas}"),
        ("updates", f"{model.optimizer.iterations.numpy():,}"),
        ("effective batch", f"{plan.global_batch:,} samples"),
        ("precision", precision.policy),
        ("seconds", f"{seconds:.1f} (with validation)"),
    ]:
        table.add_row(row[0], "  ".join(row[1:]))
    rich.console.Console().print(table)

    epochs = range(1, args.epochs + 1)
    figure = Figure(figsize=(7, 6), layout="constrained")
    figure.suptitle(
        f"{args.dataset}: {accuracy:.1%} of {len(test):,} held-out images "
        f"read correctly\n{plan}, {precision.policy}"
    )
    loss, speed = figure.subplots(2, sharex=True)
    for axes, key, label, color in [
        (loss, "loss", "training, with dropout", "tab:blue"),
        (loss, "val_loss", "held out", "tab:orange"),
        (speed, "samples_per_second", "all replicas", "tab:green"),
        (speed, "replica_samples_per_second", "one replica", "tab:purple"),
    ]:
        axes.plot(epochs, history[key], ".-", label=label, color=color)
    loss.set(ylabel="cross-entropy (nats)", yscale="log")
    speed.set(ylabel="samples per second", xlabel="epoch", ylim=(0, None))
    speed.xaxis.set_major_locator(MaxNLocator(integer=True))
    speed.yaxis.set_major_formatter("{x:,.0f}")
    for axes in (loss, speed):
        axes.grid(alpha=0.3)
        axes.legend()
    path = output / "training.png"
    figure.savefig(path, dpi=150)
    print(f"plot: {path}")
    print(throughput.limit())
    print(f"more: tfdp report {output}")
