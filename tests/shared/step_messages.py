"""Reports what two workers tell each other in their steps, and how."""

import inspect

import keras
import numpy as np
import problem
import tensorflow as tf

import tfdp
from tfdp.agreement import ballot

strategy = tfdp.auto_strategy()
HERE = strategy.worker_index
BATCH = 16


class Logging(keras.Sequential):
    """Logs what Keras's own step does not."""

    def train_step(self, data):
        logs = super().train_step(data)
        here = tf.distribute.get_replica_context().replica_id_in_sync_group
        one = tf.cast(here, tf.float32)
        return {
            **logs,
            "half": tf.cast(2 * one, tf.float16),
            "two": tf.stack([one, 3 * one]),
            "three": 3,
            "small": tf.cast(4 * here, tf.uint8),
            "yes": tf.constant(True),
            "text": tf.constant("here"),
        }


class Driven(keras.Sequential):
    """Trains by a function of its own, of which tfdp knows nothing."""

    def make_train_function(self, force=False):
        @tf.function
        def function(iterator):
            logs = strategy.run(self.train_step, (next(iterator),))
            return tf.nest.map_structure(
                lambda v: strategy.experimental_local_results(v)[0], logs
            )

        self.train_function = function


class Seen(keras.callbacks.Callback):
    """Keeps the logs of each step, and what is heard after each update."""

    def __init__(self, edges, ask=None):
        super().__init__()
        self.edges, self.ask = edges, ask
        self.logs, self.tested, self.heard = [], [], []
        self.votes = 0

    def on_train_begin(self, logs=None):
        self.edges.hear(
            at_begin=lambda: None,
            at_epoch=lambda epoch: None,
            at_update=lambda asked: self.heard.append(sorted(asked)),
            signals=(),
        )

    def on_train_batch_end(self, batch, logs=None):
        logs = dict(logs)
        if "text" in logs:
            logs |= {"text": str(logs["text"]), "yes": bool(logs["yes"])}
            logs["two"] = np.asarray(logs["two"]).tolist()
        self.logs.append(logs)
        if self.ask is not None:
            self.ask(self, len(self.logs))

    def on_test_batch_end(self, batch, logs=None):
        self.tested.append(logs)


def collectives(graph):
    """Names of all collectives, in a graph and what it calls."""
    graph = graph.as_graph_def()
    functions = {f.signature.name: f.node_def for f in graph.library.function}

    def visit(nodes):
        for node in nodes:
            if node.op.startswith("Collective"):
                yield node.name.rpartition("/")[0]
            for attribute in node.attr.values():
                yield from visit(functions.get(attribute.func.name, []))

    return list(visit(graph.node))


def made(kind=keras.Sequential, steps=1, **compiled):
    with strategy.scope():
        keras.utils.set_random_seed(1)
        model = kind([keras.Input((8,)), keras.layers.Dense(1)])
        optimizer = tfdp.DistributedOptimizer(
            keras.optimizers.SGD(0.05), accumulation_steps=steps
        )
        model.compile(optimizer, "mse", metrics=["mae"], **compiled)
    return model


def fitted(model, ask=None, epochs=1, data=None):
    """Fits; returns all that was seen, and how often workers voted apart."""
    edges = tfdp.callbacks.DataParallel()
    seen = Seen(edges, ask)
    votes, gather = [], ballot.all_gather

    def counted(*args, **kwargs):
        votes.append(len(seen.logs))
        return gather(*args, **kwargs)

    ballot.all_gather = counted
    data = problem.dataset(6 * BATCH, BATCH) if data is None else data
    try:
        history = model.fit(
            data,
            epochs=epochs,
            validation_data=problem.dataset(2 * BATCH, BATCH),
            verbose=0,
            callbacks=[edges, seen],
        ).history
        for name in {"text", "yes", "two"} & history.keys():
            del history[name]
    finally:
        ballot.all_gather = gather
    return {
        "logs": seen.logs,
        "tested": seen.tested,
        "heard": seen.heard,
        "votes": votes,
        "history": history,
    }


def graph_of(model, name, data):
    """Names of the collectives that a function of Keras's makes."""
    getattr(model, f"make_{name}")(force=True)
    function = inspect.getclosurevars(getattr(model, name)).nonlocals[
        "multi_step_on_iterator"
    ]
    batches = iter(strategy.experimental_distribute_dataset(data))
    return collectives(function.get_concrete_function(batches).graph)


def counts(steps):
    model = made(steps=steps)
    found = fitted(model)
    known = problem.dataset(6 * BATCH, BATCH)
    unknown = known.filter(lambda *_: True)
    return {
        "votes": found["votes"],
        "train": graph_of(model, "train_function", known),
        "test": graph_of(model, "test_function", known),
        "of unknown length": graph_of(model, "train_function", unknown),
        "of functions": graph_of_own(model),
    }


def graph_of_own(model):
    def own(context):
        data = problem.dataset(4 * BATCH, BATCH // 2)
        return data.shard(
            context.num_input_pipelines, context.input_pipeline_id
        )

    data = strategy.distribute_datasets_from_function(own)
    function = inspect.getclosurevars(model.train_function).nonlocals[
        "multi_step_on_iterator"
    ]
    return collectives(function.get_concrete_function(iter(data)).graph)


def asking(question, at, worker=1):
    def ask(seen, steps):
        if steps == at and worker == HERE:
            seen.edges.ballot.ask(question)

    return ask


def stopping(at):
    def ask(seen, steps):
        if steps == at and HERE == 1:
            seen.model.stop_training = True

    return ask


def on_batch():
    model = made()
    x, y = problem.arrays(BATCH)
    rows = slice(HERE * BATCH // 2, (HERE + 1) * BATCH // 2)
    logs = model.train_on_batch(x[rows], y[rows], return_dict=True)
    return {name: float(value) for name, value in logs.items()}


def own_loop():
    """What a loop of the program's own has of a step, and of its sum."""
    model = made()
    batch = next(
        iter(
            strategy.experimental_distribute_dataset(
                problem.dataset(BATCH, BATCH)
            )
        )
    )

    @tf.function
    def step(batch):
        logs = strategy.run(model.train_step, (batch,))
        total = strategy.reduce("SUM", logs["loss"], axis=None)
        (own,) = strategy.experimental_local_results(logs["loss"])
        return own, total

    return [float(each) for each in step(batch)]


tfdp.testing.report(
    {
        "counts": [counts(steps) for steps in (1, 2)],
        "plain": fitted(made(), epochs=2),
        "eager": fitted(made(run_eagerly=True), epochs=2),
        "own": fitted(made(Logging)),
        "backup": fitted(made(), asking("backup", 2)),
        "backup of two": fitted(made(steps=2), asking("backup", 2)),
        "stop": fitted(made(), stopping(6), epochs=3),
        "driven": fitted(made(Driven), asking("backup", 2)),
        "on batch": on_batch(),
        "own loop": own_loop(),
    }
)
