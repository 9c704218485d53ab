"""Launchers that know one address: `tfdp launch --rendezvous`."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest

LAUNCH = [sys.executable, "-m", "tfdp.cli", "launch"]

# Worker 1 fails in the first attempt, and the others as they would: later.
PROGRAM = """
import json, os, sys, time
task = json.loads(os.environ["TF_CONFIG"])
print(os.environ["TF_CONFIG"], flush=True)
if "fail" in sys.argv and os.environ["TFDP_RESTART_COUNT"] == "0":
    if task["task"]["index"] == 1:
        sys.exit(3)
    time.sleep(0.5)
    sys.exit(4)
"""


@pytest.fixture
def address():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "train.py"
    path.write_text(PROGRAM)
    return str(path)


@contextlib.contextmanager
def launcher(*args, **variables):
    with subprocess.Popen(
        [*LAUNCH, *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TFDP_JOB_SECRET": "one for all", **variables},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def outcome(process):
    stdout, stderr = process.communicate(timeout=60)
    return process.returncode, stdout, stderr


def configs(stdout):
    lines = (line.partition("] ")[2] for line in stdout.splitlines())
    return [json.loads(line) for line in lines if line.startswith("{")]


def refused(*args):
    with launcher(*args) as process:
        code, _, stderr = outcome(process)
    return code, stderr


def wait_until_listening(address):
    host, _, port = address.rpartition(":")
    deadline = time.monotonic() + 60
    while True:
        with contextlib.suppress(OSError):
            socket.create_connection((host, int(port))).close()
            return
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_launchers_start_together_the_workers_of_one_job(address, script):
    options = ["--rendezvous", address, "--workers-total", "3"]
    with launcher(*options, "--workers", "2", script) as first:
        wait_until_listening(address)
        with launcher(*options, script) as second:
            results = [outcome(first), outcome(second)]
    assert [code for code, _, _ in results] == [0, 0]
    told = configs(results[0][1]) + configs(results[1][1])
    assert sorted(each["task"]["index"] for each in told) == [0, 1, 2]
    (addresses,) = {tuple(each["cluster"]["worker"]) for each in told}
    assert len(set(addresses)) == 3
    assert configs(results[1][1])[0]["task"]["index"] == 2
    assert f"3 workers met at {address}: 0 to 1 are here\n" in results[0][2]
    assert f"3 workers met at {address}: worker 2 is here\n" in results[1][2]


def test_after_a_failure_all_meet_again_at_the_same_address(address, script):
    options = ["--rendezvous", address, "--workers-total", "2"]
    options += ["--max-restarts", "1", script, "fail"]
    with launcher(*options) as first, launcher(*options) as second:
        results = [outcome(first), outcome(second)]
    assert [code for code, _, _ in results] == [0, 0]
    for _, stdout, stderr in results:
        before, after = configs(stdout)
        assert before["cluster"] != after["cluster"]
        assert stderr.count(f"2 workers met at {address}") == 2
    told = [configs(stdout)[1] for _, stdout, _ in results]
    assert told[0]["cluster"] == told[1]["cluster"]
    assert {each["task"]["index"] for each in told} == {0, 1}


def test_a_launcher_that_was_killed_comes_back_to_the_same_address(
    address, script
):
    options = ["--rendezvous", address, "--workers-total", "2", script]
    with launcher(*options) as killed:
        wait_until_listening(address)
        killed.kill()
    with launcher(*options) as first, launcher(*options) as second:
        assert [outcome(first)[0], outcome(second)[0]] == [0, 0]


def test_who_waits_for_a_host_that_is_killed_meets_the_next(address, script):
    options = ["--rendezvous", address, "--workers-total", "3"]
    with launcher(*options, script) as host:
        wait_until_listening(address)
        with launcher(*options, script) as guest:
            connections = psutil.Process(host.pid).net_connections
            port = int(address.rpartition(":")[2])
            deadline = time.monotonic() + 60
            while not any(
                c.laddr.port == port and c.status == psutil.CONN_ESTABLISHED
                for c in connections("tcp")
            ):
                assert time.monotonic() < deadline
                time.sleep(0.02)
            host.kill()
            with launcher(*options, "--workers", "2", script) as next_host:
                results = [outcome(guest), outcome(next_host)]
    assert [code for code, _, _ in results] == [0, 0]
    (told,) = configs(results[0][1])
    assert len(told["cluster"]["worker"]) == 3


def test_launchers_may_call_the_address_by_different_names(address, script):
    options = ["--workers-total", "2", script]
    other = address.replace("127.0.0.1", "localhost")
    variables = {"TFDP_JOB_SECRET": ""}
    with (
        launcher("--rendezvous", address, *options, **variables) as first,
        launcher("--rendezvous", other, *options, **variables) as second,
    ):
        assert [outcome(first)[0], outcome(second)[0]] == [0, 0]


def test_all_workers_here_meet_nobody_else(address, script):
    options = ["--rendezvous", address, "--workers-total", "2"]
    with launcher(*options, "--workers=2", script) as alone:
        code, stdout, stderr = outcome(alone)
    assert (code, len(configs(stdout))) == (0, 2), stderr


def test_who_does_not_come_in_time_is_told(address, script):
    code, stderr = refused(
        *("--rendezvous", address, "--workers-total", "4", "--workers", "2"),
        *("--start-timeout", "0.5", script),
    )
    assert code == 1
    assert re.search(
        rf"All 4 workers must come to {address} within 0.5 seconds. Received: "
        r"since \d\d:\d\d:\d\d 2 of 4\. Start the others",
        stderr,
    )


@pytest.mark.parametrize(
    "options", [("--timeout", "0.5"), ("--env", "TFDP_START_TIMEOUT=0.5")]
)
def test_other_limits_are_kept_while_others_are_waited_for(
    address, script, options
):
    code, stderr = refused(
        "--rendezvous", address, "--workers-total", "2", *options, script
    )
    assert (code, "within 0.5 seconds" in stderr) == (1, True)


def test_a_malformed_time_to_wait_is_refused(address, script):
    with launcher(
        *("--rendezvous", address, "--workers-total", "2", script),
        TFDP_START_TIMEOUT="soon",
    ) as process:
        code, _, stderr = outcome(process)
    assert code == 2
    assert "TFDP_START_TIMEOUT must be a positive number" in stderr


def test_a_second_job_at_the_address_is_refused_by_name(address, script):
    options = ["--rendezvous", address, "--workers-total", "2"]
    with launcher(*options, script) as first:
        wait_until_listening(address)
        with launcher(*options, script, TFDP_JOB_SECRET="another") as second:
            code, _, stderr = outcome(second)
        assert code == 2
        assert "must be of one job" in stderr
        assert "another TFDP_JOB_SECRET" in stderr
        with launcher(*options, script) as third:
            assert [outcome(third)[0], outcome(first)[0]] == [0, 0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_launcher_that_waits_can_be_ended(address, script, number):
    options = ["--rendezvous", address, "--workers-total", "2", script]
    with launcher(*options) as process:
        wait_until_listening(address)
        process.send_signal(number)
        assert process.wait(30) == -number


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        (["--rendezvous", "a:1"], "belong together. Received: --rendezvous "),
        (["--workers-total", "2"], "belong together. Received: --workers-tot"),
        (
            ["--rendezvous", "a", "--workers-total", "2"],
            "An address of the cluster must be `host:port`",
        ),
        (
            ["--rendezvous", "a:1", "--workers-total", "0"],
            "workers_total",
        ),
        (
            ["--rendezvous", "a:1", "--workers-total", "2", "--workers", "3"],
            "A launcher's workers are some of the job's. Received: 3 worker(s) "
            "here, 2 in all.",
        ),
        *(
            (
                ["--rendezvous", "a:1", "--workers-total", "2", *others],
                f"Received: --rendezvous and {others[0]}. Leave out one",
            )
            for others in (
                ["--nodes", "a:1", "--node-rank", "0"],
                ["--isolated"],
                ["--asynchronous"],
            )
        ),
    ],
)
def test_options_that_contradict_each_other_are_refused(script, options, rule):
    code, stderr = refused(*options, script)
    assert code == 2
    assert rule in " ".join(stderr.split())
