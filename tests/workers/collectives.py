"""Reports the collectives that one epoch runs, as TensorFlow profiled them."""

import collections
import pathlib
import tempfile

import problem
import tensorflow as tf
from tensorflow.tsl.profiler.protobuf import xplane_pb2

import tfdp

strategy = tfdp.auto_strategy()
# Tracing Python too crashes now and then, where replicas are threads.
WITHOUT_PYTHON = tf.profiler.experimental.ProfilerOptions(python_tracer_level=0)


def profiled(folder):
    (trace,) = pathlib.Path(folder).glob("**/*.xplane.pb")
    space = xplane_pb2.XSpace.FromString(trace.read_bytes())
    for plane in space.planes:
        for line in plane.lines:
            for event in line.events:
                yield plane.event_metadata[event.metadata_id].name


def collectives(steps):
    with strategy.scope():
        model = problem.make_model()
        optimizer = tfdp.DistributedOptimizer(
            problem.OPTIMIZERS["adam"](), accumulation_steps=steps
        )
        model.compile(optimizer, "mse")
    data = problem.dataset(256, problem.GLOBAL_BATCH // steps)
    fit = {"verbose": 0, "callbacks": [tfdp.callbacks.DataParallel()]}
    model.fit(data, **fit)
    before = int(optimizer.iterations.numpy())
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder, WITHOUT_PYTHON)
        model.fit(data, **fit)
        tf.profiler.experimental.stop()
        names = [
            n for n in profiled(folder) if n.endswith(":CollectiveReduceV2")
        ]
    kinds = collections.Counter(
        "gradients" if "tfdp_all_reduce" in name else "others" for name in names
    )
    return {
        "steps": steps,
        "updates": int(optimizer.iterations.numpy()) - before,
        **kinds,
    }


tfdp.testing.report([collectives(steps) for steps in (1, 2, 4)])
