"""Who waits for whom, and what is said of it."""

from tfdp.asynchronous.serving.roll_call import RollCall


def called(absent, **kwargs):
    lost, lines = [], []
    call = RollCall(lambda: absent, lost.append, lines.append, **kwargs)
    return call, lost, lines


def test_whom_the_others_wait_for_is_said_before_they_are_left_out():
    call, lost, lines = called([1, 3], seconds=0.2, tell_after=0.1)
    call.begin().join()
    assert lost == [1, 3]
    assert lines == [
        "workers 1, 3 have not come in 0.1 s. In 0.1 s the others take their "
        "batches.",
        "workers 1, 3 have not come in 0.2 s. The others take their batches; "
        "they may still join.",
    ]


def test_where_all_have_come_nothing_is_said():
    call, lost, lines = called([], seconds=0.1, tell_after=0.05)
    call.begin().join()
    assert lost == lines == []


def test_nobody_is_waited_for_once_all_is_over():
    call, lost, lines = called([1], seconds=60.0)
    waiting = call.begin()
    call.end()
    waiting.join(10)
    assert not waiting.is_alive()
    assert lost == lines == []


def test_a_patience_has_an_end():
    call, _, _ = called([1], seconds=600.0)
    assert (call._tell_after, call._seconds) == (10.0, 30.0)
