"""`fit` of asynchronous workers, replayed by plain Keras on one device."""

import asynchronous_fit
import numpy as np
import pytest

import tfdp

pytestmark = pytest.mark.multi_worker

BATCHES = -(-asynchronous_fit.SAMPLES // asynchronous_fit.BATCH)
EPOCHS = 3
LOST = ("killed", "stopped")
AT_ONCE = [("Adam", 1, "back", 2, "arrays")]
LATER = [
    *(
        (optimizer, bound, how, 2, "arrays")
        for optimizer in asynchronous_fit.OPTIMIZERS
        for bound in (0, 1, 2, 8)
        for how in ("slow", "killed", "stopped", "back")
    ),
    *(("AdamW", bound, "back", 3, "arrays") for bound in (0, 1, 2, 8)),
    *(("Adam", 2, "killed", 3, kind) for kind in ("marked", "unknown")),
    *(("Adam", 1, "slow", 2, kind) for kind in ("marked", "unknown")),
]


@pytest.mark.parametrize(
    ("optimizer", "bound", "how", "workers", "kind"),
    [
        *AT_ONCE,
        *(
            pytest.param(*case, marks=pytest.mark.long)
            for case in LATER
            if case not in AT_ONCE
        ),
    ],
)
def test_replayed_by_one_device_weights_are_equal(
    optimizer, bound, how, workers, kind, tmp_path
):
    found = tfdp.testing.run_workers(
        asynchronous_fit.train,
        workers,
        args=(str(tmp_path), optimizer, bound, how, workers, EPOCHS, 1, kind),
        asynchronous=True,
        max_restarts=int(how == "back"),
        timeout=180,
    )
    chief = found[0]
    rows = asynchronous_fit.with_batches(chief["log"], tmp_path)
    assert len(rows) == chief["statistics"]["version"] == chief["iterations"]
    assert max(applied - read for read, applied, *_ in rows) <= bound
    for epoch in range(EPOCHS):
        # Each batch is in one update of the epoch.
        numbers = [n for _, _, e, (n,) in rows if e == epoch]
        assert sorted(numbers) == list(range(BATCHES))
    expected = asynchronous_fit.replayed(rows, optimizer)
    there = found[:-1] if how in LOST else found
    for worker in there:
        for one, other in zip(worker["weights"], expected, strict=True):
            np.testing.assert_array_equal(np.float32(one), other)
    losses = [worker["history"]["loss"][-1] for worker in there]
    assert losses == [losses[0]] * len(there)


def test_accumulated_gradients_are_sent_once_per_cycle(tmp_path):
    found = tfdp.testing.run_workers(
        asynchronous_fit.train,
        2,
        args=(str(tmp_path), "SGD", 1, "slow", 2, 2, 2, "arrays"),
        asynchronous=True,
        timeout=180,
    )
    rows = asynchronous_fit.with_batches(found[0]["log"], tmp_path)
    for epoch in range(2):
        cycles = sorted(sorted(n) for _, _, e, n in rows if e == epoch)
        # Of three batches each: a cycle of two, and one that is left.
        assert cycles == [[0, 2], [1, 3], [4], [5]]
