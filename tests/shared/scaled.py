"""Trains as a user would, for longer than anybody waits."""

import sys

import keras
import problem

import tfdp

strategy = tfdp.auto_strategy()
with strategy.scope():
    model = problem.make_model()
    model.compile(
        tfdp.DistributedOptimizer(
            keras.optimizers.SGD(0.05), accumulation_steps=2
        ),
        "mse",
    )
is_weak = "--global-batch" not in sys.argv
batch = 8 * strategy.num_replicas_in_sync if is_weak else 16
model.fit(
    problem.dataset(800, batch),
    epochs=10_000,
    verbose=0,
    callbacks=[tfdp.callbacks.DataParallel()],
)
sys.exit("The program must have ended before.")
