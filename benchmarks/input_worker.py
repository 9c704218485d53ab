"""One worker that trains on samples whose decoding takes a known time.

    python benchmarks/input_worker.py LIBRARY DECODE SECONDS PARALLEL

LIBRARY is `marked` or `unmarked`, of tfdp, or `torch`. DECODE `sleeps`, as if
it waited for a disk, `PARALLEL` samples at a time, or `computes`.
"""

import sys
import time

import numpy as np

BATCH = 32  # per replica
FEATURES = 8
SAMPLES = 100_000


def decoded(decode, seconds, index):
    """Returns a sample after so many seconds, of waiting or of computing."""
    if decode == "sleeps":
        time.sleep(seconds)
    else:
        end = time.thread_time() + seconds
        while time.thread_time() < end:
            pass
    return np.full(FEATURES, index % 7, "float32")


def train_with_tfdp(is_marked, decode, seconds, parallel):
    import keras
    import tensorflow as tf
    from harness.fit_turns import fit_turns

    import tfdp

    strategy = tfdp.MultiWorkerMirroredStrategy()
    with strategy.scope():
        model = keras.Sequential(
            [keras.Input((FEATURES,)), keras.layers.Dense(1)]
        )
        optimizer = tfdp.DistributedOptimizer(keras.optimizers.SGD(1e-3))
        model.compile(optimizer, "mse")

    def decode_one(index):
        sample = tf.numpy_function(
            lambda index: decoded(decode, seconds, index), [index], tf.float32
        )
        sample = tf.ensure_shape(sample, [FEATURES])
        return sample, sample[:1]

    indices = tf.data.Dataset.range(SAMPLES).repeat()
    if is_marked:
        indices = indices.apply(tfdp.shard)
    dataset = indices.map(decode_one, num_parallel_calls=parallel).batch(
        BATCH * strategy.num_workers
    )
    options = tf.data.Options()
    # As many may wait at a time as are asked for, whatever the cores.
    options.threading.private_threadpool_size = parallel + 2
    model.fit(
        dataset.with_options(options),
        steps_per_epoch=10**9,
        verbose=0,
        callbacks=[tfdp.callbacks.DataParallel(), fit_turns(keras)],
    )


def train_with_torch(decode, seconds, parallel):
    import torch
    import torch.distributed
    from harness.turns import serve

    class Samples(torch.utils.data.Dataset):
        def __len__(self):
            return SAMPLES

        def __getitem__(self, index):
            sample = decoded(decode, seconds, index)
            return sample, sample[:1]

    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    samples = Samples()
    loader = torch.utils.data.DataLoader(
        samples,
        BATCH,
        sampler=torch.utils.data.DistributedSampler(samples),
        num_workers=parallel,
        prefetch_factor=1,
    )
    model = torch.nn.parallel.DistributedDataParallel(
        torch.nn.Linear(FEATURES, 1)
    )
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    batches = iter(loader)

    def turn(steps):
        begin = time.perf_counter()
        for _ in range(steps):
            x, y = next(batches)
            loss = torch.nn.functional.mse_loss(model(x), y)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        return {"seconds": time.perf_counter() - begin, "loss": loss.item()}

    serve(turn)


if __name__ == "__main__":
    library, decode, seconds, parallel = sys.argv[1:]
    how = decode, float(seconds), int(parallel)
    if library == "torch":
        train_with_torch(*how)
    else:
        train_with_tfdp(library == "marked", *how)
