"""One worker that trains a network with Keras on JAX, on several processes.

python benchmarks/jax_worker.py NETWORK
"""

import os
import sys

os.environ["KERAS_BACKEND"] = "jax"

import keras
from harness.fit_turns import fit_turns
from harness.networks import inputs_and_labels, model


def main(network):
    rank = int(os.environ["RANK"])
    keras.distribution.initialize(
        job_addresses=f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}",
        num_processes=int(os.environ["WORLD_SIZE"]),
        process_id=rank,
    )
    keras.distribution.set_distribution(
        keras.distribution.DataParallel(auto_shard_dataset=False)
    )
    trained = model(keras, network)
    trained.compile(
        keras.optimizers.SGD(0.01, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )

    def own_batches():
        one = inputs_and_labels(network, rank)
        while True:
            yield one

    trained.fit(
        own_batches(),
        steps_per_epoch=10**9,
        verbose=0,
        callbacks=[fit_turns(keras, dict)],
    )


main(*sys.argv[1:])
