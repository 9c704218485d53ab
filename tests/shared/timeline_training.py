"""Trains as one of two workers, the second of which has a clock ahead."""

import sys
import time

import keras
import problem

import tfdp
from tfdp.agreement import compared_clocks

folder, ahead = sys.argv[1], float(sys.argv[2])
strategy = tfdp.MultiWorkerMirroredStrategy()


def clock():
    return time.time() + ahead * strategy.worker_index


with strategy.scope():
    model = problem.make_model()
    model.compile(tfdp.DistributedOptimizer(keras.optimizers.SGD(0.05)), "mse")
data = problem.dataset(40 * problem.GLOBAL_BATCH, problem.GLOBAL_BATCH)
callbacks = [
    tfdp.callbacks.DataParallel(),
    tfdp.callbacks.ThroughputMonitor(verbose=0, clock=clock),
    tfdp.callbacks.BackupAndRestore(f"{folder}/backups", save_freq=8),
]
if strategy.is_chief:
    callbacks.append(tfdp.callbacks.RunLogger(folder, timeline=8))
model.fit(data, epochs=2, verbose=0, validation_data=data, callbacks=callbacks)
by_graph = compared_clocks(strategy)
by_function = compared_clocks(strategy, clock)
tfdp.testing.report([by_graph, by_function])
