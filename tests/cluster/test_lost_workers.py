"""An error that a lost worker has caused names it; others pass untouched."""

import atexit
import faulthandler

import pytest
import tensorflow as tf

from tfdp.cluster import lost_workers
from tfdp.cluster.cluster import Cluster
from tfdp.cluster.lost_workers import naming_lost_workers

CLUSTER = Cluster.of(["a:1", "b:1", "c:1"], 0)
WITH_CHIEF = Cluster(
    {"chief": ["a:1"], "worker": ["b:1"], "evaluator": ["c:1"]}, "chief", 0
)


@pytest.fixture(autouse=True)
def at_exit(monkeypatch):
    """What was registered to be called at the end of the process."""
    registered = []
    lost_workers.exit_in_time.cache_clear()
    monkeypatch.setattr(
        atexit,
        "register",
        lambda function, *args, **kwargs: registered.append(
            (function, args, kwargs)
        ),
    )
    yield registered
    lost_workers.exit_in_time.cache_clear()
    for _, _, arguments in registered:
        arguments["file"].close()


@pytest.fixture
def lost(monkeypatch):
    """Workers that do not listen."""
    found = []
    monkeypatch.setattr(lost_workers, "unreachable", lambda _: list(found))
    return found


def raised(error, cluster=CLUSTER):
    def step():
        raise error

    with pytest.raises(type(error)) as caught:
        naming_lost_workers(step, cluster)()
    assert caught.value is error
    return getattr(error, "__notes__", [])


def test_what_the_function_returns_is_passed_on(lost):
    def step(iterator, *, twice):
        """A step."""
        return [iterator] * (1 + twice)

    naming = naming_lost_workers(step, CLUSTER)
    assert naming("data", twice=True) == ["data", "data"]
    assert (naming.__name__, naming.__doc__) == ("step", "A step.")


@pytest.mark.parametrize(
    "kind",
    ["Aborted", "Cancelled", "DeadlineExceeded", "Internal", "Unavailable"],
)
def test_a_worker_that_does_not_listen_is_named(lost, kind):
    lost.append("worker 2 (c:1)")
    error = getattr(tf.errors, f"{kind}Error")(None, None, "Connection reset")
    (note,) = raised(error)
    assert note.startswith("Lost worker 2 (c:1): it was killed, failed, or ")
    assert "`tfdp launch --max-restarts`" in note
    assert "`callbacks.BackupAndRestore`" in note
    assert error.message == "Connection reset"


@pytest.mark.parametrize(
    "message",
    [
        "Task /job:worker/replica:0/task:1 heartbeat timeout",
        "/job:worker/task:1 is unavailable; /job:worker/task:1 was reset",
        "/job:worker/replica:0/task:0 lost /job:worker/replica:0/task:1",
        "/job:worker/task:1 and /job:worker/task:9 and /job:ps/task:0",
    ],
)
def test_a_worker_that_the_error_speaks_of_is_named(lost, message):
    (note,) = raised(tf.errors.UnavailableError(None, None, message))
    assert note.startswith("Lost worker 1 (b:1): ")


def test_a_worker_is_named_once(lost):
    lost.append("worker 1 (b:1)")
    message = "/job:worker/replica:0/task:1 and /job:worker/replica:0/task:2"
    (note,) = raised(tf.errors.AbortedError(None, None, message))
    assert note.startswith("Lost worker 1 (b:1), worker 2 (c:1): ")


def test_the_chief_counts_as_the_first_worker(lost):
    message = "/job:chief/replica:0/task:0 lost /job:worker/replica:0/task:0"
    error = tf.errors.UnavailableError(None, None, message)
    (note,) = raised(error, WITH_CHIEF)
    assert note.startswith("Lost worker 1 (b:1): ")


def test_an_evaluator_is_no_worker(lost):
    error = tf.errors.UnavailableError(None, None, "/job:evaluator/task:0")
    assert raised(error, WITH_CHIEF) == []


def test_of_a_closed_connection_the_end_of_the_worker_is_waited_for(
    monkeypatch,
):
    looks = iter([[], [], ["worker 2 (c:1)"]])
    monkeypatch.setattr(lost_workers, "unreachable", lambda _: next(looks))
    error = tf.errors.UnknownError(None, None, "ConnectionError: reset by peer")
    (note,) = raised(error)
    assert note.startswith("Lost worker 2 (c:1): ")


def test_it_is_not_waited_for_longer(lost, monkeypatch):
    monkeypatch.setattr(lost_workers, "_CLOSING_SECONDS", 0.1)
    error = tf.errors.UnknownError(None, None, "ConnectionError: reset by peer")
    assert raised(error) == []


@pytest.mark.parametrize("message", ["", "/job:worker/replica:0/task:0 failed"])
def test_nothing_is_said_where_no_other_worker_is_lost(lost, at_exit, message):
    assert raised(tf.errors.InternalError(None, None, message)) == []
    assert at_exit == []


@pytest.mark.parametrize(
    "error",
    [
        ValueError("/job:worker/task:1"),
        KeyboardInterrupt(),
        tf.errors.InvalidArgumentError(None, None, "/job:worker/task:1"),
        tf.errors.ResourceExhaustedError(None, None, "/job:worker/task:1"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_other_errors_pass_untouched(lost, at_exit, error):
    lost.append("worker 2 (c:1)")
    assert raised(error) == []
    assert at_exit == []


def test_the_process_ends_in_time_once_a_worker_is_lost(lost, at_exit):
    lost.append("worker 2 (c:1)")
    for _ in range(2):
        raised(tf.errors.UnavailableError(None, None, ""))
    ((function, args, arguments),) = at_exit
    assert function is faulthandler.dump_traceback_later
    assert args == (3,)
    assert arguments["exit"] is True


def test_a_call_without_another_worker_says_so_first(lost, at_exit):
    lost.append("worker 1 (b:1)")
    error = tf.errors.UnavailableError(None, None, "no heartbeats")
    with (
        pytest.raises(tf.errors.UnavailableError) as caught,
        lost_workers.meeting_all_workers(CLUSTER),
    ):
        raise error
    message = str(caught.value)
    assert message.startswith(
        "Every worker must make the same calls of `fit`, `evaluate`, "
    )
    assert "Received: a call without worker 1 (b:1), which has ended" in message
    assert "not under `if strategy.is_chief:` alone" in message
    assert "TensorFlow says: no heartbeats" in message
    assert caught.value.__cause__ is error
    assert len(at_exit) == 1


def test_without_a_cluster_a_call_without_others_names_nobody(at_exit):
    with (
        pytest.raises(tf.errors.AbortedError, match="without some of them"),
        lost_workers.meeting_all_workers(None),
    ):
        raise tf.errors.AbortedError(None, None, "")


def test_other_errors_of_a_call_pass():
    with (
        pytest.raises(KeyError, match="x"),
        lost_workers.meeting_all_workers(CLUSTER),
    ):
        raise KeyError("x")
