"""Trains two steps, wherever the environment says that this worker is."""

import json

import keras
import problem

import tfdp

strategy = tfdp.auto_strategy()
with strategy.scope():
    model = problem.make_model()
    model.compile(
        tfdp.DistributedOptimizer(keras.optimizers.SGD(0.05, momentum=0.9)),
        "mse",
    )
model.fit(
    problem.dataset(2 * problem.GLOBAL_BATCH, problem.GLOBAL_BATCH),
    verbose=0,
    callbacks=[tfdp.callbacks.DataParallel()],
)
found = {
    "workers": strategy.num_workers,
    "index": strategy.worker_index,
    "weights": [w.tolist() for w in model.get_weights()],
}
print(f"placed {json.dumps(found)}", flush=True)
