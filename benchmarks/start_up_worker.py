"""One worker that trains until its first update, and notes the way there.

tfdp launch --workers 2 benchmarks/start_up_worker.py NETWORK FOLDER
python benchmarks/start_up_worker.py NETWORK FOLDER

Without a launcher it trains as plain Keras does, in one process.
"""

import sys

from harness.marks import Marks

marks = Marks(sys.argv[2])

import contextlib  # noqa: E402
import os  # noqa: E402

import keras  # noqa: E402
from harness.networks import BATCH, inputs_and_labels, model  # noqa: E402

PARALLEL = "TF_CONFIG" in os.environ
if PARALLEL:
    import tfdp

    used = tfdp.auto_strategy, tfdp.DistributedOptimizer, tfdp.callbacks
marks.note("importing")


class Start(keras.callbacks.Callback):
    """Notes where `fit` begins its first step, and where it has ended."""

    def on_train_batch_begin(self, batch, logs=None):
        if batch == 0:
            marks.note("agreeing")

    def on_train_batch_end(self, batch, logs=None):
        if int(self.model.optimizer.iterations.numpy()) == 1:
            marks.note("tracing, first step")
        self.model.stop_training = True


def main(network):
    keras.utils.set_random_seed(1)
    scope, batch, rank, callbacks = contextlib.nullcontext(), BATCH, 0, []
    if PARALLEL:
        strategy = tfdp.auto_strategy()
        scope, rank = strategy.scope(), strategy.worker_index
        batch *= strategy.num_replicas_in_sync
        callbacks = [tfdp.callbacks.DataParallel()]
    marks.note("meeting")
    with scope:
        optimizer = keras.optimizers.SGD(0.01, momentum=0.9)
        if PARALLEL:
            optimizer = tfdp.DistributedOptimizer(optimizer)
        trained = model(keras, network)
        trained.compile(
            optimizer,
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
    marks.note("building")
    x, y = inputs_and_labels(network, 0)
    trained.fit(
        x.repeat(8, 0),
        y.repeat(8, 0),
        batch_size=batch,
        verbose=0,
        callbacks=[*callbacks, Start()],
    )
    marks.write(rank)


main(sys.argv[1])
