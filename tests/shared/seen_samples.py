"""Reports which samples each epoch gave to this worker."""

import keras
import numpy as np
import tensorflow as tf
from witness import Witness

import tfdp

NUM_SAMPLES, EPOCHS = 96, 3
strategy = tfdp.auto_strategy()


def seen(*data, **arguments):
    with strategy.scope():
        model = Witness()
        optimizer = tfdp.DistributedOptimizer(keras.optimizers.SGD(0.0))
        model.compile(optimizer, "mse")
    new_epoch = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: model.epochs.append([])
    )
    model.fit(
        *data,
        epochs=EPOCHS,
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel(), new_epoch],
        **arguments,
    )
    return model.epochs


class Rows(keras.utils.PyDataset):
    """Batches of 8, so many that no two orders are alike by chance."""

    def __len__(self):
        return NUM_SAMPLES // 8

    def __getitem__(self, index):
        return x[index * 8 :][:8].copy(), y[index * 8 :][:8].copy()


x = np.zeros((NUM_SAMPLES, 2), "float32")
y = np.arange(NUM_SAMPLES, dtype="float32").reshape(-1, 1)
pairs = tf.data.Dataset.from_tensor_slices((x, y))
own_shard = strategy.distribute_datasets_from_function(
    lambda context: (
        pairs.shard(2, context.input_pipeline_id)
        .take(48 - 20 * context.input_pipeline_id)
        .batch(8)
    )
)
by_file = tf.data.Options()
by_file.experimental_distribute.auto_shard_policy = (
    tf.data.experimental.AutoShardPolicy.FILE
)
tfdp.testing.report(
    {
        "arrays": seen(x, y, batch_size=16),
        "dataset": seen(pairs.shuffle(NUM_SAMPLES).batch(16)),
        "PyDataset": seen(Rows()),
        "PyDataset of threads": seen(Rows(workers=2)),
        "PyDataset of a process": seen(
            Rows(workers=1, use_multiprocessing=True)
        ),
        "generator": seen(
            (Rows()[k % 12] for k in range(12 * EPOCHS)), steps_per_epoch=12
        ),
        "auto-sharded by file": seen(
            pairs.shuffle(NUM_SAMPLES, seed=1).batch(16).with_options(by_file)
        ),
        "shards of different length": seen(own_shard),
    }
)
