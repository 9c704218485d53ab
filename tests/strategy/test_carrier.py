"""Workers agree on what gradients travel by, and say what keeps them."""

import carried_training as program
import pytest

import tfdp
from tfdp.upstream import gloo

pytestmark = [
    pytest.mark.multi_worker,
    pytest.mark.skipif(not gloo.is_there(), reason="gloo is not installed"),
]


def told(*arguments, **options):
    return tfdp.testing.run_workers(program.told, 2, arguments, **options)


def test_it_is_gloo_where_all_have_it():
    assert told("auto") == 2 * [[True, []]]


def test_it_is_tensorflow_where_one_has_no_gloo():
    (is_gloo, (said,)), other = told("auto", 1)
    assert not is_gloo
    assert "Received: gloo is not installed (worker 1). They travel" in said
    assert other == [False, []]


def test_it_is_tensorflow_where_one_is_not_reached():
    (is_gloo, (said,)), other = told("auto", -1, True)
    assert not is_gloo
    assert "Received: no way from worker 0 (worker 0); no way from" in said
    assert other == [False, []]


@pytest.mark.parametrize(
    ("more", "received"),
    [((0,), "gloo is not installed (worker 0)"), ((-1, True), "no way from")],
)
def test_gloo_that_was_asked_for_is_refused_by_all(more, received):
    for said in told("gloo", *more):
        assert f"Received: communication='gloo'; {received}" in said
        assert "pip install 'tfdp[gloo]'" in said


def test_all_must_be_told_the_same():
    for said in told(["gloo", "tensorflow"]):
        assert "communication=['gloo', 'tensorflow'], by worker" in said


@pytest.mark.parametrize(
    "make", [tfdp.MultiWorkerMirroredStrategy, tfdp.auto_strategy]
)
def test_another_name_is_refused(make):
    with pytest.raises(ValueError, match="communication='mpi'"):
        make(communication="mpi")


def test_of_one_worker_nothing_travels():
    strategy = tfdp.MultiWorkerMirroredStrategy(communication="gloo")
    assert strategy.carrier is None
