"""Launchers of several machines, of which some are lost and come back."""

import contextlib
import signal
import time

import pytest
from node_launchers import Machines

from tfdp.elastic.nodes import Post, Roster

TRAIN = "train(until='end')"
PLAIN = ("--no-preload",)
SOON = (*PLAIN, "--rejoin-seconds", "1")


@pytest.fixture
def machines(tmp_path):
    with contextlib.ExitStack() as stack:

        def made(code=TRAIN, **kwargs):
            found = Machines(tmp_path, code, **kwargs)
            stack.callback(found.close)
            return found

        yield made


def test_all_that_are_there_train_together(machines):
    job = machines(
        "print('port', cluster['cluster']['worker'])", slots=2, options=PLAIN
    )
    names = [job.start(rank) for rank in (1, 0)]
    assert [job.wait(name) for name in names] == [0, 0]
    first, second = (job.said(name) for name in names)
    for index in (0, 1):
        assert f"[worker {index}] attempt 0 of 4" in second
        assert f"[worker {index + 2}] attempt 0 of 4" in first
    assert f"node 0 ({job.addresses[0]}) leads" in first
    ports = [int(each.rpartition(":")[2]) for each in job.addresses]
    hosts = [f"127.0.0.1:{port + local}" for port in ports for local in (1, 2)]
    assert f"port {hosts}" in first


def test_a_machine_may_be_missing(machines):
    job = machines("", count=3, options=SOON)
    names = [job.start(rank) for rank in (2, 1)]
    assert [job.wait(name) for name in names] == [0, 0]
    assert f"waiting up to 1 s for node 0 ({job.addresses[0]})" in job.said(
        names[1]
    )
    assert "[worker 0] attempt 0 of 2" in job.said(names[1])
    assert "[worker 1] attempt 0 of 2" in job.said(names[0])


def test_the_next_one_leads_where_the_first_is_lost(machines):
    job = machines(options=SOON)
    first, second = job.start(0), job.start(1)
    job.hear(second, r"\[worker 1\] attempt 0 of 2")
    job.kill(first)
    job.hear(second, r"node 0 .* is gone")
    job.hear(second, r"\[worker 0\] attempt 1 of 1")
    back = job.start(0)
    # It is taken in, and leads.
    job.hear(back, r"\[worker 0\] attempt 2 of 2")
    job.hear(second, r"a launcher of a smaller rank leads from now on")
    job.hear(second, r"\[worker 1\] attempt 2 of 2")
    job.end()
    assert (job.wait(back), job.wait(second)) == (0, 0)


def test_a_lost_machine_is_done_without_until_it_comes_back(machines):
    job = machines(options=SOON)
    first, second = job.start(0), job.start(1)
    job.hear(second, r"\[worker 1\] attempt 0 of 2")
    job.kill(second)
    job.hear(first, r"Node 1 \(127.0.0.1:\d+\) is gone\. All other workers")
    job.hear(first, "going on with 1 worker, fewer")
    job.hear(first, r"\[worker 0\] attempt 1 of 1")
    back = job.start(1)
    job.hear(first, "going on with 2 workers, more")
    job.hear(back, r"\[worker 1\] attempt 2 of 2")
    job.end()
    assert (job.wait(first), job.wait(back)) == (0, 0)


def test_a_worker_elsewhere_that_is_killed_is_to_blame(machines):
    job = machines(
        """
        if attempt == 0 and index == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if attempt == 0:
            time.sleep(1)
            sys.exit(3)  # As what it waits for is gone.
    """,
        options=PLAIN,
    )
    first, second = job.start(0), job.start(1)
    assert (job.wait(first), job.wait(second)) == (0, 0)
    assert "Worker 1 was killed by SIGKILL (exit code 137)" in job.said(first)
    assert "Worker 1 was killed by SIGKILL (exit code 137)" in job.said(second)
    assert "going on with 2 workers, as before" in job.said(first)
    assert "attempt 1, worker 1" in job.said(first)


def test_who_fails_again_and_again_ends_the_job_of_all(machines):
    job = machines(
        "sys.exit(7 * index)", options=(*PLAIN, "--max-restarts", "1")
    )
    first, second = job.start(0), job.start(1)
    assert (job.wait(first), job.wait(second)) == (7, 7)
    assert job.said(first).count("Worker 1 failed with exit code 7") == 2
    assert "restart 1 of 1" in job.said(first)


@pytest.mark.parametrize("rank", [0, 1])
def test_who_is_told_to_end_leaves_after_a_backup(machines, rank):
    job = machines(options=SOON)
    names = [job.start(0), job.start(1)]
    leaving, staying = names[rank], names[1 - rank]
    job.hear(names[1], r"\[worker 1\] attempt 0 of 2")
    job.kill(leaving, signal.SIGTERM)
    assert job.wait(leaving) == 128 + signal.SIGTERM
    job.hear(staying, r"\[worker 0\] attempt 1 of 1")
    # Nobody was killed: each had its time for a backup.
    assert "SIGKILL" not in job.all_said()
    job.end()
    assert job.wait(staying) == 0


def test_a_second_signal_kills(machines):
    job = machines(
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); train('end')",
        options=SOON,
    )
    job.start(0)
    second = job.start(1)
    job.hear(second, r"\[worker 1\] attempt 0 of 2")
    job.kill(second, signal.SIGTERM)
    job.hear(second, "this machine leaves after a backup")
    job.kill(second, signal.SIGINT)
    assert job.wait(second, seconds=20) == 128 + signal.SIGTERM


@pytest.mark.long
def test_too_few_are_not_waited_for_without_end(machines):
    job = machines(
        "", slots=2, least=3, options=(*SOON, "--start-timeout", "3")
    )
    name = job.start(1)
    assert job.wait(name) == 1
    said = " ".join(job.said(name).split())
    assert "At least 3 workers must be there within 3 seconds." in said
    assert f"Received: 2, without node 0 ({job.addresses[0]})." in said


def test_another_program_is_refused_and_disturbs_nobody(machines, tmp_path):
    job = machines(options=SOON, count=3)
    first, second = job.start(0), job.start(1)
    job.hear(second, r"\[worker 1\] attempt 0 of 2")
    other = tmp_path / "other.py"
    other.write_text(job.script.read_text() + "\n")
    for changes, rule in (
        ({"script": other}, "one program. Received: script '"),
        ({"args": ["--rate", "1"]}, "Received: arguments '"),
        ({"workers": "2:3"}, "Received: --workers '2:3' here, '1:3' there"),
    ):
        name = job.start(2, **changes)
        assert job.wait(name) == 2
        assert rule in " ".join(job.said(name).split())
    job.end()
    assert (job.wait(first), job.wait(second)) == (0, 0)
    assert "attempt 1" not in job.all_said()


def test_two_jobs_at_one_address_are_told_apart(machines):
    job = machines(options=SOON)
    first = job.start(0, env={"TFDP_JOB_SECRET": "one"})
    job.hear(first, r"\[worker 0\] attempt 0 of 1")
    other = job.start(1, env={"TFDP_JOB_SECRET": "two"})
    assert job.wait(other) == 2
    said = " ".join(job.said(other).split())
    assert f"{job.addresses[0]}, where another job's launcher is there" in said
    twice = job.start(0, env={"TFDP_JOB_SECRET": "one"})
    assert job.wait(twice) == 2
    said = " ".join(job.said(twice).split())
    assert "must be able to listen on the ports from that of --nodes" in said
    job.end()
    assert job.wait(first) == 0
    assert "attempt 1" not in job.said(first)


@pytest.mark.long
def test_a_leader_that_was_stopped_takes_over_again(machines):
    job = machines(options=SOON)
    first, second = job.start(0), job.start(1)
    job.hear(second, r"\[worker 1\] attempt 0 of 2")
    job.kill(first, signal.SIGSTOP)
    job.hear(second, r"node 0 .* has said nothing for 10 s")
    job.hear(second, r"\[worker 0\] attempt 1 of 1")
    job.kill(first, signal.SIGCONT)
    job.hear(second, "a launcher of a smaller rank leads from now on")
    job.hear(second, r"\[worker 1\] attempt \d of 2")
    job.hear(first, r"\[worker 0\] attempt [1-9] of 2")
    job.end()
    assert (job.wait(first), job.wait(second)) == (0, 0)


def test_another_program_does_not_take_over_from_who_was_there(
    machines, tmp_path
):
    job = machines(options=SOON)
    first, second = job.start(0), job.start(1)
    job.hear(second, r"\[worker 1\] attempt 0 of 2")
    other = tmp_path / "other.py"
    other.write_text(job.script.read_text() + "\n")
    job.kill(first)
    changed = job.start(0, script=other)
    assert job.wait(changed) == 2
    assert "must start one program" in job.said(changed)
    job.hear(second, r"\[worker 0\] attempt 1 of 1")
    job.end()
    assert job.wait(second) == 0


@pytest.mark.long
def test_who_comes_after_the_training_disturbs_nobody(machines):
    job = machines(
        """
        from tfdp.board import State
        own_board().note(State.ENDED, made=5)
        print("saves", flush=True)
        train('end')
        """,
        options=SOON,
        count=3,
    )
    first, second = job.start(0), job.start(1)
    job.hear(second, r"\[worker 1\] saves")
    third = job.start(2)
    job.hear(third, "leads")
    job.kill(second, signal.SIGTERM)
    time.sleep(2)
    job.end()
    assert [job.wait(name) for name in (first, second, third)] == [0, 0, 0]
    assert "attempt 1" not in job.all_said()


def test_as_many_as_there_are_may_be_the_least(machines):
    job = machines(least=2, options=(*SOON, "--max-restarts", "9"))
    first, second = job.start(0), job.start(1)
    job.hear(second, r"\[worker 1\] attempt 0 of 2")
    job.kill(second)
    job.hear(first, r"waiting up to 600 s for node 1")
    back = job.start(1)
    job.hear(back, r"\[worker 1\] attempt 1 of 2")
    job.end()
    assert (job.wait(first), job.wait(back)) == (0, 0)


def test_a_stranger_at_another_address_is_passed_over(machines):
    job = machines(options=SOON, count=3)
    stranger = Post(Roster(tuple(job.addresses), 1), "another secret", {})
    with stranger:
        # It alone would not do: the list is wrong.
        name = job.start(2)
        assert job.wait(name) == 2
        assert f"Received: {job.addresses[1]}, where" in job.said(name)
    first = job.start(0)
    job.hear(first, r"\[worker 0\] attempt 0 of 1")
    stranger = Post(Roster(tuple(job.addresses), 1), "another secret", {})
    with stranger:
        third = job.start(2)
        job.hear(third, "node 0 .* leads")
        job.end()
        assert (job.wait(first), job.wait(third)) == (0, 0)
