"""Reports the collectives in the graph of a training step, and where."""

import sys

import keras
import numpy as np
import problem
import tensorflow as tf
from tensorflow.python.eager import context

import tfdp

strategy = tfdp.auto_strategy()


def collectives(graph):
    """Names of all collectives, and whether they are behind a condition."""
    functions = {f.signature.name: f.node_def for f in graph.library.function}

    def visit(nodes, is_conditional):
        for node in nodes:
            if node.op == "CollectiveReduceV2":
                dtype = tf.as_dtype(node.attr["T"].type).name
                yield node.name, is_conditional, dtype
            for attribute in node.attr.values():
                called = functions.get(attribute.func.name, [])
                yield from visit(called, is_conditional or "If" in node.op)

    return list(visit(graph.node, False))


def traced(steps, measured, compression=None):
    with strategy.scope():
        inner = problem.OPTIMIZERS["adam"]()
        if measured:
            inner = tfdp.AdaScale(0.01, base_batch=8)
        model = problem.make_model()
        optimizer = tfdp.DistributedOptimizer(
            inner, accumulation_steps=steps, compression=compression
        )
        model.compile(optimizer, "mse")
    if measured:
        optimizer.measure_noise(0.9)
    data = problem.dataset(256, problem.GLOBAL_BATCH // steps)
    model.fit(data, verbose=0, callbacks=[tfdp.callbacks.DataParallel()])
    weights = model.get_weights()
    batch = next(iter(strategy.experimental_distribute_dataset(data)))

    @tf.function
    def step(batch):
        return strategy.run(model.train_step, args=(batch,))

    graph = step.get_concrete_function(batch).graph
    return {
        "steps": steps,
        "measured": measured,
        "compression": compression,
        "weights": [weight.tolist() for weight in weights],
        "updates": int(optimizer.iterations.numpy()),
        "collectives": collectives(graph.as_graph_def()),
    }


def embedded(compression):
    """Weights of an embedding, whose gradients travel as rows."""
    tokens = np.arange(64, dtype="int32").reshape(16, 4) % 7
    with strategy.scope():
        model = keras.Sequential(
            [
                keras.Input((4,), dtype="int32"),
                keras.layers.Embedding(
                    50, 3, keras.initializers.RandomNormal(seed=1)
                ),
                keras.layers.GlobalAveragePooling1D(),
            ]
        )
        inner = keras.optimizers.SGD(0.1)
        optimizer = tfdp.DistributedOptimizer(inner, compression=compression)
        model.compile(optimizer, "mse")
    data = tf.data.Dataset.from_tensor_slices((tokens, np.ones((16, 3))))
    model.fit(
        data.batch(8),
        epochs=2,
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel()],
    )
    return model.get_weights()[0].tolist()


(cases,) = sys.argv[1:]
STEPS = (1, 2, 4) if cases == "all" else (1, 2)
TYPES = ("bfloat16", "float16") if cases == "all" else ("bfloat16",)
tfdp.testing.report(
    {
        "plain": [traced(steps, False) for steps in STEPS],
        "measured": [traced(steps, True) for steps in STEPS],
        "compressed": [traced(steps, False, "bfloat16") for steps in (1, 2)],
        "embedded": [embedded(c) for c in (None, *TYPES)],
        "chunk": context.context().config.experimental.recv_buf_max_chunk,
    }
)
