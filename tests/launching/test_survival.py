from tfdp.launching.restarts import Restarts
from tfdp.launching.survival import Survival


def survival(most=1, patience=30.0):
    return Survival(Restarts(most), patience=patience)


def test_a_fall_is_told_once_after_the_chief_could_have_been_found_lost():
    judge = survival()
    codes = {0: None, 1: 3, 2: None}
    assert judge.look(10.0, codes) == judge.look(10.4, codes) == []
    (fall,) = judge.look(10.5, codes)
    assert (fall.worker, fall.returncode, fall.is_lost) == (1, 3, False)
    assert fall.fate == (
        "The others go on. It is started again in 1 s (restart 1 of 1)."
    )
    assert judge.look(11.0, codes) == []
    assert (judge.due(11.4), judge.due(11.5)) == ([], [1])


def test_a_worker_that_was_started_again_may_fall_again():
    judge = survival()
    judge.look(0.0, {0: None, 1: -9})
    judge.look(0.5, {0: None, 1: -9})
    assert judge.due(2.0) == [1]
    assert judge.look(2.0, {0: None, 1: None}) == []
    assert judge.look(9.0, {0: None, 1: 7}) == []
    (fall,) = judge.look(9.5, {0: None, 1: 7})
    assert (fall.returncode, fall.is_lost) == (7, True)
    assert fall.fate == "The others go on without it after 1 restart."
    assert judge.due(1e6) == []
    assert judge.unfinished({0: None, 1: 7}) == [0]


def test_a_worker_is_lost_at_once_where_none_is_started_again():
    judge = survival(most=0)
    judge.look(0.0, {0: None, 1: 1})
    (fall,) = judge.look(0.5, {0: None, 1: 1})
    assert (fall.fate, fall.is_lost) == ("The others go on without it.", True)


def test_the_chief_is_not_judged():
    judge = survival()
    for now in (0.0, 1.0, 2.0):
        assert judge.look(now, {0: 1, 1: None}) == []


def test_who_falls_or_waits_is_waited_for():
    judge = survival()
    codes = {0: 0, 1: 3, 2: 0}
    assert judge.unfinished(codes) == [1]
    judge = survival()
    # The chief is elsewhere.
    judge.look(0.0, {4: 3, 5: 0})
    assert judge.unfinished({4: 3, 5: 0}) == [4]
    judge.look(0.5, {4: 3, 5: 0})
    assert judge.unfinished({4: 3, 5: 0}) == [4]
    assert judge.due(1.5) == [4]
    assert judge.unfinished({4: 0, 5: 0}) == []


def test_an_end_with_success_is_no_fall():
    judge = survival()
    for now in (0.0, 1.0, 60.0):
        assert judge.look(now, {0: None, 1: 0}) == []
    assert judge.unfinished({0: None, 1: 0}) == [0]


def test_nobody_is_started_again_once_the_chief_has_ended():
    judge = survival(most=9)
    codes = {0: None, 1: 3, 2: None}
    judge.look(0.0, codes)
    assert len(judge.look(0.5, codes)) == 1
    (called_off,) = judge.look(0.6, {**codes, 0: 0})
    assert (called_off.worker, called_off.returncode) == (1, 3)
    assert called_off.is_lost
    assert "has ended meanwhile: it is not" in called_off.fate
    codes = {0: 0, 1: 3, 2: 4}
    judge.look(0.7, codes)
    (late,) = judge.look(1.2, codes)
    assert (late.worker, late.is_lost) == (2, True)
    assert late.fate == "The chief has ended: it is not started again."
    assert judge.restarts.counts == {1: 0}
    assert judge.due(1e6) == judge.unfinished(codes) == []


def test_those_that_run_on_after_the_chief_have_a_time_to_end():
    judge = survival(patience=7.0)
    codes = {0: 0, 1: None, 2: None}
    assert judge.look(0.0, codes) == judge.look(6.9, codes) == []
    assert judge.unfinished(codes) == [1, 2]
    falls = judge.look(7.0, codes)
    assert [(f.worker, f.returncode, f.is_lost) for f in falls] == [
        (1, None, True),
        (2, None, True),
    ]
    assert falls[0].fate == (
        "It still ran 7 s after the chief had ended with 0, and was ended."
    )
    assert judge.unfinished(codes) == []
    assert judge.look(8.0, codes) == []


def test_who_was_started_again_at_the_end_is_hardly_waited_for():
    judge = survival(most=9, patience=30.0)
    running = {0: None, 1: None, 2: None, 3: None}
    # Worker 2 is started at 1.5, and worker 1 at 11.5.
    for begin, worker in ((0.0, 2), (10.0, 1)):
        codes = {**running, worker: -9}
        judge.look(begin, codes)
        assert len(judge.look(begin + 0.5, codes)) == 1
        assert judge.due(begin + 1.5) == [worker]
    ended = {**running, 0: 0}
    assert judge.look(12.0, ended) == judge.look(14.9, ended) == []
    (soon,) = judge.look(15.0, ended)
    assert (soon.worker, soon.returncode, soon.is_lost) == (1, None, True)
    assert soon.fate == (
        "It was starting again when the job came to its end. It still ran 3 s "
        "after the chief had ended with 0, and was ended."
    )
    assert judge.unfinished(ended) == [2, 3]
    # As long as it had run.
    assert judge.look(22.4, ended) == []
    assert [fall.worker for fall in judge.look(22.5, ended)] == [2]
    # With all the others' patience, who was there all along.
    assert judge.look(41.9, ended) == []
    (last,) = judge.look(42.0, ended)
    assert last.fate.startswith("It still ran 30 s after the chief")
