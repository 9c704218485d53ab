import os
import subprocess
import sys
import textwrap

import asynchronous_workers
import plain
import pytest

from tfdp import testing
from tfdp.calls import kept_server
from tfdp.launching import WorkerFailure


@pytest.fixture
def script(tmp_path):
    """Writes a script and returns its path."""

    def write(code):
        path = tmp_path / "worker.py"
        head = "import json, os, sys, time\nfrom tfdp.testing import report\n"
        head += "index = json.loads(os.environ['TF_CONFIG'])['task']['index']\n"
        path.write_text(head + textwrap.dedent(code))
        return path

    return write


def test_reports_come_back_by_index_of_the_worker(script):
    path = script(
        """
        time.sleep(0.3 - 0.1 * index)
        print('unfinished line ', end='')
        report({'index': index, 'args': sys.argv[1:], 'of': os.environ['OF']})
        print('more')
        """
    )
    reports = testing.run_workers(path, 3, ["--a", "b"], env={"OF": "é"})
    assert reports == [
        {"index": i, "args": ["--a", "b"], "of": "é"} for i in range(3)
    ]


@pytest.mark.parametrize(
    "value", [None, 1.5, "a\nb\u2028", [1, [2]], {"a": {}}]
)
def test_reported_values_survive_the_journey(script, value):
    assert testing.run_workers(script(f"report({value!r})"), 1) == [value]


def test_large_report_survives_the_journey(script):
    path = script("report(list(range(100_000)))")
    assert testing.run_workers(path, 1) == [list(range(100_000))]


def test_report_must_be_json():
    with pytest.raises(TypeError, match="not JSON serializable"):
        testing.report(object())


def test_failure_is_told_with_the_log_of_the_worker(script):
    path = script(
        """
        if index == 0:
            time.sleep(60)
        for i in range(100): print('line', i)
        raise ValueError('wrong weights')
        """
    )
    with pytest.raises(RuntimeError) as caught:
        testing.run_workers(path, 2)
    message = str(caught.value)
    assert f"Every worker of {path} must end with exit code 0" in message
    assert "Received: Worker 1 failed with exit code 1." in message
    assert "  line 0\n" in message
    assert message.endswith("ValueError: wrong weights")


@pytest.mark.parametrize(
    ("code", "counts"),
    [
        ("if index == 0: report(1)", [1, 0]),
        ("report(1)\nif index == 1: report(1)", [1, 2]),
    ],
)
def test_every_worker_must_report_once(script, code, counts):
    with pytest.raises(RuntimeError) as caught:
        testing.run_workers(script(code), 2)
    assert f"Received: {counts} reports, by worker." in str(caught.value)


def test_timeout_tells_what_the_workers_did():
    with pytest.raises(TimeoutError, match="timeout=2 seconds") as caught:
        testing.run_workers(plain.wait, 2, timeout=2)
    assert "waits 0" in str(caught.value)
    assert "waits 1" in str(caught.value)


def test_function_returns_what_its_workers_find():
    assert testing.run_workers(
        plain.place, 2, [1, None], start_method="spawn"
    ) == [
        [0, [1, None], False],
        [1, [1, None], False],
    ]


def test_function_may_belong_to_a_class():
    assert testing.run_workers(plain.Places.of, 1, ["é"]) == [["é"]]


def test_function_must_return_json():
    with pytest.raises(RuntimeError, match="not JSON serializable") as caught:
        testing.run_workers(plain.no_json, 1)
    assert "Every worker of no_json must end with" in str(caught.value)


def test_function_of_the_main_program_does_not_run_that_again(tmp_path):
    path = tmp_path / "main.py"
    path.write_text(
        "def seven(): return 7\n"
        "if __name__ == '__main__':\n"
        "    from tfdp.testing import run_workers\n"
        "    print(run_workers(seven, 1))\n"
    )
    result = subprocess.run(
        [sys.executable, path], capture_output=True, text=True, check=True
    )
    assert result.stdout == "[7]\n"


def test_lambda_is_not_found_by_its_name():
    with pytest.raises(ValueError, match=r"Received: .*<lambda> of .*Define"):
        testing.run_workers(lambda: 1, 1)


def test_function_inside_of_another_is_not_found():
    def inner():
        return 1

    with pytest.raises(ValueError, match=r"Received: .*<locals>\.inner of"):
        testing.run_workers(inner, 1)


@pytest.mark.parametrize("value", [print, plain.Places])
def test_what_is_no_function_is_refused(value):
    with pytest.raises(TypeError, match="must run a script or a function"):
        testing.run_workers(value, 1)


def test_function_takes_what_json_can_hold():
    with pytest.raises(TypeError, match="not JSON serializable"):
        testing.run_workers(plain.place, 1, [object()])


def test_logs_are_kept_where_asked(tmp_path):
    testing.run_workers(
        plain.place,
        2,
        ["a"],
        log_dir=tmp_path / "logs",
        start_method="spawn",
    )
    for worker in (0, 1):
        log = (tmp_path / "logs" / f"worker-{worker}.log").read_text()
        assert log.endswith(f'[tfdp report] [{worker}, ["a"], false]\n')


def test_workers_are_at_least_one(script):
    with pytest.raises(ValueError, match="num_workers=0"):
        testing.run_workers(script(""), 0)


def test_logical_cpus_are_made_once_before_tensorflow_starts(script):
    path = script(
        """
        from tfdp.testing import logical_cpus
        findings = {'names': logical_cpus(3)}
        import tensorflow as tf
        findings['changed in time'] = logical_cpus(4)
        tf.constant(1.0)
        devices = tf.config.list_logical_devices('CPU')
        findings['devices'] = [device.name for device in devices]
        findings['again'] = logical_cpus(4)
        try:
            logical_cpus(2)
        except RuntimeError as error:
            findings['error'] = str(error)
        report(findings)
        """
    )
    (findings,) = testing.run_workers(path, 1)
    names = [f"CPU:{i}" for i in range(4)]
    assert findings["names"] == names[:3]
    assert findings["changed in time"] == names
    assert findings["devices"] == [f"/device:{name}" for name in names]
    assert findings["again"] == names
    assert findings["error"] == (
        "Logical devices must be made before TensorFlow starts its runtime. "
        "Received: count=2, with the runtime started on 4. Call "
        "`logical_cpus(2)` before anything else, for example in "
        "`pytest_configure` of conftest.py."
    )


@pytest.mark.parametrize("count", [0, -2])
def test_count_of_logical_cpus_is_at_least_one(count):
    with pytest.raises(ValueError, match=rf"count={count}\. Use 1"):
        testing.logical_cpus(count)


@pytest.mark.parametrize("count", [2.0, "2", True, None])
def test_count_of_logical_cpus_is_an_integer(count):
    with pytest.raises(TypeError, match="`count` must be an integer"):
        testing.logical_cpus(count)


def test_a_start_method_is_one_of_two():
    with pytest.raises(ValueError, match="`start_method`") as caught:
        testing.run_workers(plain.place, 1, start_method="fork")
    assert str(caught.value) == (
        "`start_method` must be 'forkserver', 'spawn' or None. Received: "
        "start_method='fork'."
    )


def parent():
    return os.getppid()


def is_forked():
    return testing.run_workers(parent, 1)[0] != os.getpid()


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere all are spawned")
def test_workers_are_forked_again_after_another_environment(monkeypatch):
    assert is_forked()
    monkeypatch.setenv("OTHER", "1")
    # The third is forked from a server with this environment.
    assert [is_forked() for _ in range(3)] == [False, True, True]
    monkeypatch.delenv("OTHER")
    assert [is_forked() for _ in range(3)] == [False, True, True]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere all are spawned")
def test_workers_are_forked_again_after_the_server_was_killed():
    assert is_forked()
    kept_server._kept[0]._process.kill()
    assert testing.run_workers(plain.place, 1, [1])[0][:2] == [0, [1]]
    kept_server._kept[0]._process.wait()
    assert is_forked()


def test_asynchronous_workers_go_on_without_those_that_fall(script):
    path = script(
        """
        if index == 1: os.kill(os.getpid(), 9)
        if index == 2:
            print('out of data')
            sys.exit(3)
        time.sleep(1)
        report([index, os.environ['TFDP_ASYNCHRONOUS']])
        """
    )
    first, second, third, fourth = testing.run_workers(
        path, 4, asynchronous=True
    )
    assert (first, fourth) == ([0, "1"], [3, "1"])
    assert isinstance(second, WorkerFailure)
    assert (second.exit_code, second.signal_name) == (137, "SIGKILL")
    assert (third.exit_code, third.last_lines) == (3, ("out of data",))


def test_a_worker_that_was_started_again_reports_once(script):
    path = script(
        """
        count = int(os.environ['TFDP_RESTART_COUNT'])
        folder = os.path.dirname(__file__)
        report(count)
        if index == 1:
            if count == 0: os.kill(os.getpid(), 9)
            open(os.path.join(folder, 'again'), 'w').close()
        while not os.path.exists(os.path.join(folder, 'again')):
            time.sleep(0.01)
        """
    )
    run = testing.run_workers
    assert run(path, 2, asynchronous=True, max_restarts=1) == [0, 1]


def test_a_chief_of_asynchronous_workers_that_fails_is_told(script):
    path = script("sys.exit(3) if index == 0 else time.sleep(60)")
    with pytest.raises(RuntimeError, match="It is the chief, without which"):
        testing.run_workers(path, 2, asynchronous=True)


def test_an_asynchronous_worker_that_ends_well_reports(script):
    path = script("report(1) if index == 0 else None")
    with pytest.raises(RuntimeError, match=r"Received: \[1, 0\] reports"):
        testing.run_workers(path, 2, asynchronous=True)


def test_workers_that_end_together_are_not_started_again():
    with pytest.raises(ValueError, match="max_restarts=1, asynchronous=False"):
        testing.run_workers(plain.place, 1, max_restarts=1)
    with pytest.raises(ValueError, match="`max_restarts` must be at least 0"):
        testing.run_workers(plain.place, 1, asynchronous=True, max_restarts=-1)


@pytest.mark.long
def test_a_killed_worker_comes_back_to_its_server(tmp_path):
    log, *done = testing.run_workers(
        asynchronous_workers.train,
        3,
        [[1]],
        asynchronous=True,
        max_restarts=1,
        log_dir=tmp_path,
        timeout=200,
        env={"TFDP_JOB_SECRET": "of this job"},
    )
    count, epochs, bound = (
        asynchronous_workers.COUNT,
        asynchronous_workers.EPOCHS,
        asynchronous_workers.BOUND,
    )
    assert sorted(step for _, step, _, _ in log) == list(range(count * epochs))
    assert max(applied - read for _, _, read, applied in log) <= bound
    by_worker = [sum(worker == w for worker, *_ in log) for w in range(3)]
    # Two of the second one's were made before.
    assert [by_worker[1] - 2, by_worker[2]] == done
    assert min(done) > 0
    logs = {p.name: p.read_text() for p in tmp_path.iterdir()}
    assert "tfdp server: worker 1 at 127.0.0.1" in logs["worker-0.log"]
    assert logs["worker-1.log"].count("=== worker 1, attempt ") == 2
    assert "of this job" not in "".join(logs.values())
