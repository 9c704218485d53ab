"""What two workers tell each other in their steps, and how often they meet."""

import keras
import numpy as np
import problem
import pytest
from places import SHARED

import tfdp

BATCH = 16

pytestmark = pytest.mark.multi_worker


@pytest.fixture(scope="module")
def reports():
    return tfdp.testing.run_workers(SHARED / "step_messages.py", 2, timeout=400)


class Logs(keras.callbacks.Callback):
    """Those of each step, and of each of validation."""

    def __init__(self):
        super().__init__()
        self.logs, self.tested = [], []

    def on_train_batch_end(self, batch, logs=None):
        self.logs.append(logs)

    def on_test_batch_end(self, batch, logs=None):
        self.tested.append(logs)


@pytest.fixture(scope="module")
def one_device():
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.05), "mse", metrics=["mae"])
    seen = Logs()
    history = model.fit(
        problem.dataset(6 * BATCH, BATCH),
        epochs=2,
        validation_data=problem.dataset(2 * BATCH, BATCH),
        verbose=0,
        callbacks=[seen],
    ).history
    return seen, history


def check_logs(found, expected):
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            np.testing.assert_allclose(ours[name], value, rtol=1e-5)


@pytest.mark.parametrize("place", [0, 1])
def test_workers_meet_once_in_a_step_beside_their_gradients(reports, place):
    """Whatever metrics there are, and with or without accumulation."""
    for worker in reports:
        found = worker["counts"][place]
        for data in ("train", "of functions"):
            kinds = [name.rpartition("/")[2] for name in found[data]]
            assert sorted(kinds) == ["tfdp_all_reduce", "tfdp_step_message"]
        (message,) = found["test"]
        assert message.endswith("tfdp_step_message")
        # Only at the end of the epoch do they vote apart: after six steps.
        assert set(found["votes"]) == {6}


def test_who_does_not_know_the_length_asks_for_data_too(reports):
    for worker in reports:
        names = worker["counts"][0]["of unknown length"]
        kinds = [name.rpartition("/")[2] for name in names]
        assert len(kinds) == 3
        assert {"tfdp_all_reduce", "tfdp_step_message"} < set(kinds)


@pytest.mark.parametrize("way", ["plain", "eager"])
def test_logs_of_each_step_are_those_of_one_device(reports, one_device, way):
    seen, history = one_device
    for worker in reports:
        check_logs(worker[way]["logs"], seen.logs)
        check_logs(worker[way]["tested"], seen.tested)
        check_logs([worker[way]["history"]], [history])
    # To the last bit the same on all.
    first, second = reports
    assert first[way] == second[way]


def test_a_step_of_its_own_logs_means_in_any_type(reports, one_device):
    seen, _ = one_device
    for worker in reports:
        logs = worker["own"]["logs"]
        for step, expected in zip(logs, seen.logs[:6], strict=True):
            assert (step["half"], step["two"]) == (1.0, [0.5, 1.5])
            assert step["small"] == 2
            np.testing.assert_allclose(step["mae"], expected["mae"], rtol=1e-5)


def test_what_has_no_mean_is_logged_as_on_one_device(reports):
    for worker in reports:
        for step in worker["own"]["logs"]:
            assert (step["three"], step["yes"]) == (3, True)
            assert "here" in step["text"]


def test_what_one_worker_asks_for_all_hear_after_the_next_update(reports):
    nothing, backup = [], ["backup"]
    for worker in reports:
        assert worker["backup"]["heard"] == [
            *(nothing, nothing, backup, nothing, nothing, nothing)
        ]
        # Asked for at the end of an update, of two micro-batches.
        assert worker["backup of two"]["heard"] == [nothing, backup, nothing]


def test_a_stop_in_the_last_step_of_an_epoch_ends_that_epoch(reports):
    for worker in reports:
        assert len(worker["stop"]["logs"]) == 6
        assert len(worker["stop"]["history"]["loss"]) == 1


def test_steps_that_carry_nothing_are_followed_by_a_vote(reports):
    nothing, backup = [], ["backup"]
    for worker in reports:
        assert worker["driven"]["heard"] == [nothing, backup, *([nothing] * 4)]
        assert set(range(1, 7)) <= set(worker["driven"]["votes"])


def test_a_batch_of_its_own_is_logged_as_on_one_device(reports):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.05), "mse", metrics=["mae"])
    x, y = problem.arrays(BATCH)
    expected = model.train_on_batch(x, y, return_dict=True)
    for worker in reports:
        check_logs([worker["on batch"]], [expected])


def test_a_loop_of_its_own_sums_what_steps_have_returned(reports):
    (first, total), (second, same) = (w["own loop"] for w in reports)
    assert first != second
    assert total == same == pytest.approx(first + second, rel=1e-6)
