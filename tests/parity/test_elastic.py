"""Workers that become fewer and more make the weights of one device."""

import itertools
import sys

import elastic
import pytest


def sizes(updates):
    return [size for size, _ in itertools.groupby(size for _, size in updates)]


@pytest.mark.multi_worker
@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked")
@pytest.mark.parametrize(
    ("optimizer", "most", "course", "expected"),
    [
        (
            "Adam",
            3,
            [(8, "lose", [1, 2]), (16, "welcome", [2])],
            [3, 1, 2],
        ),
        pytest.param(
            "momentum", 4, elastic.COURSE, [4, 3, 1, 2], marks=pytest.mark.long
        ),
        pytest.param(
            "Adam",
            2,
            [(5, "lose", [0]), (10, "welcome", [0]), (20, "lose", [1])],
            [2, 1, 2, 1],
            marks=pytest.mark.long,
        ),
    ],
)
def test_a_training_of_changing_workers_equals_one_device(
    tmp_path, optimizer, most, course, expected
):
    exit_code, said, updates = elastic.run(tmp_path, optimizer, course, most)
    assert exit_code == 0, "\n".join(said)
    assert sizes(updates) == expected
    assert {update for update, _ in updates} == set(range(1, 41))
    weights, losses = elastic.differences(tmp_path, optimizer)
    assert weights < 1e-5
    assert losses < 1e-5
