"""One worker that trains a network with tfdp, or with Keras 2 as it is.

python benchmarks/keras_worker.py tfdp NETWORK ACCUMULATION COMPRESSION [WAY]
python benchmarks/keras_worker.py tf_keras NETWORK
"""

import resource
import sys

import tensorflow as tf
from harness.fit_turns import fit_turns
from harness.networks import inputs_and_labels, model


def synchronization(keras, tfdp, way):
    """Returns a way to synchronise by its name, as `LocalSGD:4`."""
    name, _, sync_every = way.partition(":")
    if name == "DiLoCo":
        outer = keras.optimizers.SGD(0.7, momentum=0.9, nesterov=True)
        return tfdp.DiLoCo(outer, int(sync_every))
    arguments = [int(sync_every)] if sync_every else []
    return getattr(tfdp, name)(*arguments)


def main(
    library, network, accumulation="1", compression="none", way="Synchronous"
):
    callbacks, held = [], dict
    if library == "tfdp":
        import keras

        import tfdp

        strategy = tfdp.MultiWorkerMirroredStrategy()
        optimizer = keras.optimizers.SGD(0.01, momentum=0.9)
        options = {} if compression == "none" else {"compression": compression}
        with strategy.scope():
            optimizer = tfdp.DistributedOptimizer(
                optimizer,
                int(accumulation),
                synchronization=synchronization(keras, tfdp, way),
                **options,
            )
        callbacks.append(tfdp.callbacks.DataParallel())

        def held():
            own = optimizer.state_bytes()[strategy.worker_index]
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            return {"state": own, "peak": peak}

    else:
        import tf_keras as keras

        strategy = tf.distribute.MultiWorkerMirroredStrategy()
        with strategy.scope():
            optimizer = keras.optimizers.SGD(0.01, momentum=0.9)
    with strategy.scope():
        trained = model(keras, network)
        trained.compile(
            optimizer,
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )

    def own_batches(context):
        one = inputs_and_labels(network, context.input_pipeline_id)
        return tf.data.Dataset.from_tensors(one).repeat()

    trained.fit(
        strategy.distribute_datasets_from_function(own_batches),
        steps_per_epoch=10**9,
        verbose=0,
        callbacks=[*callbacks, fit_turns(keras, held)],
    )


main(*sys.argv[1:])
