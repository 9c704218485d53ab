"""Two workers see every sample once, or say why they will not."""

import pytest
from places import SHARED

import tfdp

pytestmark = pytest.mark.multi_worker


@pytest.fixture(scope="module")
def seen():
    return tfdp.testing.run_workers(SHARED / "seen_samples.py", 2, timeout=400)


@pytest.mark.parametrize(
    "kind",
    [
        "arrays",
        "dataset",
        "auto-sharded by file",
        "PyDataset",
        "PyDataset of threads",
        "PyDataset of a process",
    ],
)
def test_every_sample_is_seen_once_per_epoch_in_an_order_of_its_own(seen, kind):
    epochs = list(zip(*(worker[kind] for worker in seen), strict=True))
    assert len(epochs) == 3
    for first, second in epochs:
        assert len(first) == len(second) == 48
        assert sorted(first + second) == list(range(96))
    orders = [first + second for first, second in epochs]
    assert orders[0] != list(range(96))
    assert orders[0] != orders[1] != orders[2] != orders[0]


def test_a_generator_gives_each_batch_once(seen):
    for first, second in zip(
        *(worker["generator"] for worker in seen), strict=True
    ):
        assert len(first) == len(second) == 48
        assert sorted(first + second) == list(range(96))


def test_shards_of_different_length_are_used_up(seen):
    for first, second in zip(
        *(worker["shards of different length"] for worker in seen), strict=True
    ):
        assert sorted(first) == list(range(0, 96, 2))
        # Where it has none left, worker 1 computes on a made-up row.
        assert sorted(filter(None, second)) == list(range(1, 57, 2))


@pytest.fixture(scope="module")
def refusals():
    return tfdp.testing.run_workers(SHARED / "refused.py", 2, timeout=400)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("off", "sharded by the strategy. Received: a dataset with AutoShard"),
        ("lengths", "numbers of batches, by worker: 2, 4. Give each worker"),
        ("shuffling", "shuffle in the same order"),
    ],
)
def test_what_would_lose_samples_is_refused_on_every_worker(
    refusals, kind, message
):
    for worker in refusals:
        assert message in worker[kind]


def test_a_shuffle_with_the_same_seed_is_not_refused(refusals):
    assert [worker["sound"] for worker in refusals] == [None, None]
