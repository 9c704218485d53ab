"""One training run of `study.py`: a task, a rule, a batch, a seed."""

import json
import math
import sys
import time

import keras
import tasks
import tensorflow as tf
from keras.optimizers.schedules import CosineDecay
from study import BASE_BATCH, Run

import tfdp

LARGEST_PER_REPLICA_BATCH = 128
ADASCALE_MICRO_BATCHES = 8
MOMENTUM = 0.9


def train(run):
    """Returns what came out of a run, ready for JSON."""
    start = time.perf_counter()
    keras.utils.set_random_seed(run.seed)
    data, held_out = getattr(tasks, run.task)()
    strategy = tfdp.auto_strategy()
    plan = planned(run, strategy)
    updates = run.epochs * plan.updates_per_epoch(len(data[0]))
    callbacks = [tfdp.callbacks.DataParallel()]
    epochs = run.epochs
    if run.optimizer == "AdaScale":
        # The schedule is that of the base batch, and so is the length.
        updates = run.epochs * math.ceil(len(data[0]) / BASE_BATCH)
        epochs *= run.factor
        callbacks.append(tfdp.callbacks.AdaScaleMonitor(total_steps=updates))
    with strategy.scope():
        model = getattr(tasks, f"{run.task}_model")()
        model.compile(
            tfdp.DistributedOptimizer(
                optimizer(run, plan, updates),
                accumulation_steps=plan.accumulation_steps,
            ),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
    dataset = tf.data.Dataset.from_tensor_slices(data)
    history = model.fit(
        dataset.shuffle(len(data[0]), seed=run.seed).batch(plan.micro_batch),
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=callbacks,
    ).history
    judged = model.evaluate(
        tf.data.Dataset.from_tensor_slices(held_out).batch(plan.micro_batch),
        verbose=0,
        return_dict=True,
    )
    return {
        "accuracy": judged["accuracy"],
        "loss": judged["loss"],
        "training_loss": history["loss"][-1],
        "updates": int(model.optimizer.iterations.numpy()),
        "epochs": len(history["loss"]),
        "seconds": time.perf_counter() - start,
    }


def planned(run, strategy):
    """Returns the sizes of the batches."""
    largest = LARGEST_PER_REPLICA_BATCH
    if run.optimizer == "AdaScale":
        # It tells noise by how micro-batches differ, and needs several.
        largest = max(BASE_BATCH, run.batch // ADASCALE_MICRO_BATCHES)
    return tfdp.BatchPlan(
        global_batch=run.batch,
        per_replica_batch=min(run.batch, largest),
        num_replicas=strategy.num_replicas_in_sync,
    )


def optimizer(run, plan, updates):
    """Returns the optimizer of a run, for the batch that is planned."""
    warmup = round(run.warmup * updates)
    rate = CosineDecay(run.rate, updates - warmup)
    if warmup:
        rate = tfdp.WarmupSchedule(rate, warmup)
    if run.optimizer == "AdaScale":
        return tfdp.AdaScale(rate, momentum=MOMENTUM, base_batch=BASE_BATCH)
    tuned = {
        "SGD": lambda: keras.optimizers.SGD(rate, momentum=MOMENTUM),
        "LARS": lambda: tfdp.LARS(rate, momentum=MOMENTUM, weight_decay=1e-4),
        "Adam": lambda: keras.optimizers.Adam(rate),
        "LAMB": lambda: keras.optimizers.Lamb(rate),
    }[run.optimizer]()
    return tfdp.scale_learning_rate(
        tuned, plan, run.scaling, base_batch=BASE_BATCH, verbose=False
    )


def main():
    print(json.dumps(train(Run(**json.loads(sys.argv[1])))))


if __name__ == "__main__":
    main()
