"""A state that workers have shared out, against plain Keras on one device."""

import keras
import numpy as np
import pytest
import sharded_state
from problem import deviation
from sharded_state import on_one_device

import tfdp

pytestmark = pytest.mark.multi_worker

# The kind, micro-batches in an update, and options of the optimizer.
AT_ONCE = [
    ("Nadam", 1, {"loss_scale": "dynamic", "initial_scale": 1024.0}),
    ("AdamW, clipped", 2, {}),
    ("Adam, averaged", 1, {}),
]
LATER = [
    (kind, 1, {})
    for kind in sharded_state.OPTIMIZERS
    if kind not in [at_once for at_once, *_ in AT_ONCE]
]


def arrays(lists):
    return [np.array(each, "float32") for each in lists]


@pytest.mark.parametrize(
    ("workers", "cases"),
    [
        (2, AT_ONCE),
        pytest.param(3, AT_ONCE[1:2], marks=pytest.mark.long),
        pytest.param(2, LATER, marks=pytest.mark.long),
        pytest.param(3, LATER, marks=pytest.mark.long),
        pytest.param(
            2, [("Adam", 4, {"loss_scale": 8.0})], marks=pytest.mark.long
        ),
    ],
    ids=["two", "three", "two-others", "three-others", "two-scaled"],
)
def test_workers_update_as_one_device(workers, cases):
    reports = tfdp.testing.run_workers(
        sharded_state.on_workers, workers, [cases], timeout=500
    )
    for i, (kind, _, _) in enumerate(cases):
        plain = on_one_device(kind)
        for worker, report in enumerate(each[i] for each in reports):
            actual = arrays(report["weights"])
            assert deviation(actual, plain.get_weights()) <= 1e-6
            assert len(report["bytes"]) == workers
            # Nadam's product is everyone's.
            assert report["held"] - report["bytes"][worker] in (0, 4)
            assert report["bytes"][worker] <= 0.6 * sum(report["bytes"])
        # Gathered at the end of training.
        state = arrays(reports[0][i]["state"])
        expected = [v.numpy() for v in plain.optimizer.variables]
        assert deviation(state, expected) <= 1e-5


def test_what_workers_cannot_do_is_refused():
    chief, other = tfdp.testing.run_workers(sharded_state.refused_on_workers, 2)
    for said in (chief, other):
        assert "ShardedState(gradients=True) on 2 workers" in said["gradients"]
        assert "ShardedState(gradients=True) on 2 workers" in said["loaded"]
        assert "none for what replica 1 owns" in said["idle"]
        assert "Received: ModelCheckpoint, which" in said["save_freq"]
        assert "holds what one worker has" in said["checkpoint"]
    assert "gathered never. Call `optimizer.gather" in chief["not gathered"]
    assert "gathered" not in chief
    # What others hold is gathered on the chief alone.
    assert "save on the chief" in other["gathered"]


@pytest.mark.long
def test_a_model_saved_by_workers_goes_on_anywhere(tmp_path, two_replicas):
    kind = "Nadam"
    reports = tfdp.testing.run_workers(
        sharded_state.saved_on_workers, 2, [str(tmp_path), kind]
    )
    plain = on_one_device(kind)
    for weights in reports:
        assert deviation(arrays(weights), plain.get_weights()) <= 1e-6
    with two_replicas.scope():
        model = keras.models.load_model(tmp_path / "after.keras")
    sharded_state.fit(model, epochs=1)
    expected = on_one_device(kind, epochs=3)
    assert deviation(model.get_weights(), expected.get_weights()) <= 1e-6


@pytest.mark.long
@pytest.mark.parametrize(
    "workers", [2, pytest.param(3, marks=pytest.mark.long)]
)
def test_a_killed_job_goes_on_to_the_bit(tmp_path, workers):
    def run(folder, is_killed, workers=workers):
        return tfdp.testing.run_workers(
            sharded_state.resumed_on_workers,
            workers,
            [str(tmp_path / folder), "Nadam", is_killed],
        )

    undisturbed = run("undisturbed", False)
    run("killed", True)
    resumed = run("killed", False)
    assert resumed == undisturbed


@pytest.mark.long
@pytest.mark.parametrize(
    ("before", "after"),
    [(2, 3), pytest.param(3, 2, marks=pytest.mark.long)],
)
def test_another_number_of_workers_takes_over(
    tmp_path, two_replicas, before, after
):
    def run(workers, is_killed):
        return tfdp.testing.run_workers(
            sharded_state.resumed_on_workers,
            workers,
            [str(tmp_path), "Nadam", is_killed],
        )

    run(before, True)
    plain = on_one_device("Nadam")
    for weights in run(after, False):
        actual = arrays(weights)[: len(plain.weights)]
        assert deviation(actual, plain.get_weights()) <= 1e-6
