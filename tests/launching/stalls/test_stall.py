import pytest

from tfdp.board import Standing, State
from tfdp.launching.stalls.finding import Finding
from tfdp.launching.stalls.stall import Stall

PROGRAM = (
    "Current thread 0x00007f12 (most recent call first):\n"
    '  File "/me/train.py", line 41 in load\n'
)
ENGINE = (
    "Current thread 0x00007f12 (most recent call first):\n"
    '  File "/x/site-packages/tensorflow/execute.py", line 53 in run\n'
    '  File "/me/train.py", line 88 in <module>\n'
)


def at(worker, state, step=37, stacks=ENGINE, **others):
    held = others.pop("held", "")
    standing = Standing(
        pid=100 + worker,
        state=state,
        step=step,
        **{"epoch": 0, "update": 36, "changed": 40.0, **others},
    )
    return Finding(worker, standing, held=held, stacks=stacks)


def stall(*findings, **options):
    return Stall(60.0, "too long", 100.0, findings, **options)


def late(*findings):
    return [each.worker for each in stall(*findings).late]


TRAINING, WAITING = State.TRAINING, State.WAITING
CASES = {
    "is stopped": [at(0, TRAINING), at(1, TRAINING, held="stopped")],
    "has begun fewer steps": [at(0, TRAINING), at(1, TRAINING, step=36)],
    "does not vote": [at(0, WAITING), at(1, State.CALLBACKS)],
    "is in its step, where others vote": [at(0, WAITING), at(1, TRAINING)],
    "saves": [at(0, WAITING), at(1, State.SAVING)],
    "runs its own lines": [
        at(0, TRAINING),
        at(1, TRAINING, stacks=PROGRAM + "\n" + ENGINE),
    ],
}


@pytest.mark.parametrize("case", CASES)
def test_the_late_one_is_who(case):
    first, second = CASES[case]
    assert late(first, second) == [1]
    assert late(second, first) == [1]


def test_of_several_all_that_are_late_are_told():
    others = [at(2, WAITING), at(3, WAITING)]
    late_ones = [at(0, State.CALLBACKS), at(1, State.VALIDATING)]
    assert late(*late_ones, *others) == [0, 1]


@pytest.mark.parametrize("state", [TRAINING, WAITING])
def test_nobody_is_late_where_all_do_the_same(state):
    alike = [at(0, state), at(1, state)]
    assert late(*alike) == []
    assert late(*(at(w, state, stacks=PROGRAM) for w in (0, 1))) == []


def test_one_worker_alone_is_late_where_its_program_is():
    assert late(at(0, TRAINING, stacks=PROGRAM)) == [0]
    assert late(at(0, TRAINING)) == []


def test_the_report_names_the_line():
    found = stall(
        at(0, WAITING, waits_for="the vote of all workers"),
        at(1, State.CALLBACKS, stacks=PROGRAM),
    )
    assert str(found) == (
        "No worker has made progress for 60 s (too long).\n"
        "Worker 1 has not come to the vote of all workers: in callbacks after "
        "a step (update 36), in /me/train.py:41 load, for 60 s\n"
        "Worker 0: waiting for the vote of all workers (update 36), in "
        "/me/train.py:88 <module>, for 60 s"
    )


def test_the_report_names_the_update():
    found = stall(at(0, TRAINING), at(1, TRAINING, step=36, stacks=PROGRAM))
    assert str(found).splitlines()[1] == (
        "Worker 1 has not made update 37, which others wait for: in a step "
        "(update 36), in /me/train.py:41 load, for 60 s"
    )
    alone = stall(at(0, TRAINING, stacks=PROGRAM))
    assert "Worker 0 has not made update 37: in a step" in str(alone)


def test_workers_elsewhere_may_be_late():
    found = stall(at(0, WAITING), at(1, WAITING), are_all_here=False)
    told = "Those of other machines may not have come."
    assert str(found).splitlines()[1] == told
    assert told not in str(stall(at(0, WAITING), at(1, WAITING)))


def test_the_file_has_all_stacks_or_why_there_are_none():
    silent = Finding(1, Standing(), without="it has no board")
    found = stall(at(0, TRAINING), silent)
    assert found.stacks == (
        f"{found}\n\n"
        f"=== worker 0 (process 100) ===\n{ENGINE}\n\n"
        "=== worker 1 (process 0) ===\nNone: it has no board.\n"
    )
    assert "before its `fit`, in an unknown line (it has no board)" in str(
        found
    )


def test_lines_of_tfdp_are_told_where_they_say_more(tmp_path):
    import tfdp

    stacks = (
        "Current thread 0x00007f12 (most recent call first):\n"
        f'  File "{tfdp.__path__[0]}/agreement/ballot.py", line 7 in count\n'
        '  File "/me/train.py", line 88 in <module>\n'
    )
    program = "/me/train.py:88 <module>"
    assert at(0, WAITING, stacks=stacks).place == (
        f"tfdp/agreement/ballot.py:7 count, called from {program}"
    )
    assert at(0, TRAINING, stacks=stacks).place == program
    without = stacks.rpartition("  File")[0]
    assert at(0, TRAINING, stacks=without).place == (
        "tfdp/agreement/ballot.py:7 count"
    )


def test_without_a_line_no_place_is_told():
    assert at(0, TRAINING, stacks="").place == ""
