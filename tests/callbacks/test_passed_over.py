"""What workers do in steps that a resumed epoch has seen before."""

import os

import keras
import numpy as np
import pytest
from killed import KillAt, Killed

import tfdp
from tfdp.board.board_reader import BoardReader

LAST, BATCHES = 119, 130


class Votes(keras.callbacks.Callback):
    """Notes after which batches workers vote, and what their boards count."""

    def __init__(self, edges):
        super().__init__()
        self.edges = edges
        self.at, self.made, self.losses = set(), [], []

    def on_train_begin(self, logs=None):
        self.edges.watch_votes(lambda: self.at.add(self.batch))

    def on_train_batch_end(self, batch, logs=None):
        self.batch = batch
        self.made.append(BoardReader(os.environ["TFDP_BOARD"]).read().made)
        self.losses.append(float(logs["loss"]))


def resumed(folder):
    strategy = tfdp.MultiWorkerMirroredStrategy()
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        model.compile(
            tfdp.DistributedOptimizer(keras.optimizers.SGD(0.01)), "mse"
        )
    random = np.random.default_rng(0)
    x = random.normal(size=(2 * BATCHES, 3)).astype("float32")

    def fit(*more):
        edges = tfdp.callbacks.DataParallel()
        votes = Votes(edges)
        backup = tfdp.callbacks.BackupAndRestore(folder, save_freq=1)
        model.fit(
            *(x, x[:, :1]),
            batch_size=2,
            verbose=0,
            callbacks=[edges, backup, votes, *more],
        )
        return votes

    try:
        fit(KillAt(0, LAST + 1))
    except Killed:
        votes = fit()
    return sorted(votes.at), np.diff(votes.made).tolist(), votes.losses


@pytest.mark.multi_worker
def test_workers_vote_now_and_then_where_nothing_is_trained(tmp_path):
    one, other = tfdp.testing.run_workers(resumed, 2, [str(tmp_path / "b")])
    assert one == other
    at, made, losses = one
    # Before the first step that trains they do.
    assert at == [19, 69, *range(LAST, BATCHES)]
    assert made == [0] * LAST + [1] * (BATCHES - LAST - 1)
    # They see the loss of the place where the backup was made.
    assert len(set(losses[: LAST + 1])) == 1
    assert len(set(losses[LAST:])) == BATCHES - LAST
