import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time

import psutil
import pytest

LAUNCH = [sys.executable, "-m", "tfdp.cli", "launch"]


@pytest.fixture
def script(tmp_path):
    """Writes a script that has `index`, and returns its path."""

    def write(code):
        path = tmp_path / "train.py"
        path.write_text(
            "import json, os, sys, time\n"
            "index = json.loads(os.environ['TF_CONFIG'])['task']['index']\n"
            "ready = os.path.join(os.path.dirname(__file__), 'ready')\n"
            + textwrap.dedent(code)
        )
        return str(path)

    return write


def launch(*args, **options):
    return subprocess.run(
        [*LAUNCH, *args], capture_output=True, text=True, timeout=120, **options
    )


def wait_until(claim, seconds=60):
    deadline = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def is_gone(pid):
    try:
        return psutil.Process(int(pid)).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_lines_carry_the_worker_that_printed_them(script):
    path = script("print('hello'); print('oh', file=sys.stderr)")
    result = launch("--workers", "2", path)
    assert result.returncode == 0
    alone, ended = result.stderr.splitlines()
    assert alone.startswith("no worker has made a strategy, so that each has")
    assert re.fullmatch(r"2 workers ended after \d+ s", ended)
    assert sorted(result.stdout.splitlines()) == [
        "[worker 0] hello",
        "[worker 0] oh",
        "[worker 1] hello",
        "[worker 1] oh",
    ]


START_UP = (
    "WARNING: All log messages before absl::InitializeLog() is called are "
    "written to STDERR"
)


@pytest.mark.parametrize("options", [(), ("--verbose",)])
def test_what_tensorflow_prints_of_itself_goes_to_the_files(
    script, tmp_path, options
):
    path = script(f"""
        print({START_UP!r}, file=sys.stderr)
        print("  indented, " + {START_UP!r}, "and the end", end="")
    """)
    files = tmp_path / "logs"
    result = launch(*options, "--workers=1", f"--log-dir={files}", path)
    told = [f"  indented, {START_UP} and the end"]
    everything = [START_UP, *told]
    expected = everything if options else told
    assert result.stdout.splitlines() == [f"[worker 0] {x}" for x in expected]
    assert (files / "worker-0.log").read_text().splitlines()[1:] == everything


def test_lines_are_shown_when_they_are_printed(script):
    path = script("print('now'); time.sleep(60)")
    with subprocess.Popen(
        [*LAUNCH, "--workers=1", path], stdout=subprocess.PIPE, text=True
    ) as launcher:
        begin = time.monotonic()
        assert launcher.stdout.readline() == "[worker 0] now\n"
        assert time.monotonic() - begin < 30
        launcher.terminate()


def test_prefixes_are_coloured_on_a_terminal(script):
    terminal, stdout = pty.openpty()
    path = script("print('hello')")
    command = [*LAUNCH, "--plain", "--workers", "2", path]
    subprocess.run(command, stdout=stdout, check=True, timeout=120)
    output = os.read(terminal, 10_000).decode()
    os.close(stdout)
    os.close(terminal)
    assert "\x1b[36m[worker 0] \x1b[0mhello" in output
    assert "\x1b[35m[worker 1] \x1b[0mhello" in output


def test_everything_after_the_script_belongs_to_it(script):
    args = ["a b", "--workers", "7", "--help", "-x", "--", "--grace-seconds=1"]
    path = script("print(json.dumps(sys.argv))")
    result = launch("--workers", "1", path, *args)
    line = result.stdout.removeprefix("[worker 0] ")
    assert json.loads(line) == [path, *args]


def test_failure_is_told_and_its_exit_code_passed_on(script):
    path = script(
        """
        if index == 1:
            while not os.path.exists(ready): time.sleep(0.01)
            sys.exit('out of data')
        print(os.getpid())
        open(ready, 'w').close()
        time.sleep(60)
        """
    )
    result = launch("--workers", "2", path)
    assert result.returncode == 1
    told, summary = result.stderr.split("worker 0 (", maxsplit=1)
    assert told == (
        "Worker 1 failed with exit code 1. All other workers were ended.\n"
        "Last lines of worker 1:\n"
        "  out of data\n"
    )
    assert re.fullmatch(
        r"process \d+\): SIGTERM after [\d.]+ s, ended with the group\n"
        r"worker 1 \(process \d+\): exit code 1 after [\d.]+ s\n",
        summary,
    )
    # The two workers' lines come in any order.
    (line,) = (x for x in result.stdout.splitlines() if "[worker 0]" in x)
    assert is_gone(line.removeprefix("[worker 0] "))


def test_death_by_signal_is_told(script):
    result = launch("--workers", "1", script("os.kill(os.getpid(), 11)"))
    assert result.returncode == 139
    assert "Worker 0 was killed by SIGSEGV (exit code 139)." in result.stderr


def test_grace_period_is_an_option(script):
    path = script(
        """
        import signal
        if index == 0:
            while not os.path.exists(ready): time.sleep(0.01)
            sys.exit(3)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        open(ready, 'w').close()
        time.sleep(60)
        """
    )
    start = time.monotonic()
    result = launch("--workers", "2", "--grace-seconds", "0.2", path)
    assert result.returncode == 3
    assert time.monotonic() - start < 4


SLEEP = "print(os.getpid()); time.sleep(60)"


@pytest.mark.parametrize(
    ("number", "exit_code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)],
)
def test_signals_to_the_launcher_end_the_workers(script, number, exit_code):
    command = [*LAUNCH, "--workers", "2", script(SLEEP)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as launcher:
        pids = [launcher.stdout.readline().split()[-1] for _ in range(2)]
        launcher.send_signal(number)
        assert launcher.wait(timeout=60) == exit_code
        if number != signal.SIGKILL:
            assert all(map(is_gone, pids))
        wait_until(lambda: all(map(is_gone, pids)))
        stderr = launcher.stderr.read()
    if number != signal.SIGKILL:
        name = signal.Signals(number).name
        first, *summary = stderr.splitlines()
        assert first == (
            f"{name}: the workers are told; a second signal kills them"
        )
        assert [f"): {name} after " in line for line in summary] == [True] * 2


def test_workers_hear_the_signal_once_and_may_end_by_themselves(script):
    path = script(
        """
        import signal
        def save(number, frame):
            print('saved', number)
            time.sleep(0.3)
            sys.exit(0)
        for number in (2, 15): signal.signal(number, save)
        print('up')
        time.sleep(60)
        """
    )
    command = [*LAUNCH, "--workers", "2", path]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as launcher:
        for _ in range(2):
            launcher.stdout.readline()
        launcher.send_signal(signal.SIGINT)
        output, errors = launcher.communicate(timeout=60)
    assert launcher.returncode == 130
    assert sorted(output.splitlines()) == [
        "[worker 0] saved 2",
        "[worker 1] saved 2",
    ]
    assert errors.count("exit code 0 after") == 2


def test_second_signal_does_not_wait_for_the_grace_period(script):
    path = script("import signal; signal.signal(15, signal.SIG_IGN)\n" + SLEEP)
    command = [*LAUNCH, "--workers", "1", "--grace-seconds", "600", path]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as launcher:
        pid = launcher.stdout.readline().split()[-1]
        launcher.send_signal(signal.SIGTERM)
        assert "a second signal kills" in launcher.stderr.readline()
        assert not is_gone(pid)
        launcher.send_signal(signal.SIGINT)
        assert launcher.wait(timeout=60) == 128 + signal.SIGTERM
        assert is_gone(pid)
        assert "SIGKILL" in launcher.stderr.read()


def test_signal_is_not_followed_by_a_restart(script):
    command = [*LAUNCH, "--workers", "1", "--max-restarts", "3", script(SLEEP)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as launcher:
        launcher.stdout.readline()
        launcher.send_signal(signal.SIGTERM)
        output, errors = launcher.communicate(timeout=60)
    assert (launcher.returncode, output) == (143, "")
    assert "restart" not in errors


FAIL_TWICE = """
attempt = int(os.environ['TFDP_RESTART_COUNT'])
print(attempt, os.environ['TF_CONFIG'])
if attempt < 2 and index == 1:
    sys.exit(3)
"""


def test_workers_are_started_again_on_other_ports(script, tmp_path):
    logs = tmp_path / "logs"
    options = ["--max-restarts", "2", "--log-dir", str(logs)]
    result = launch("--workers", "2", *options, script(FAIL_TWICE))
    assert result.returncode == 0
    errors = result.stderr
    assert errors.count("Worker 1 failed with exit code 3.") == 2
    assert errors.index("restart 1 of 2\n") < errors.index("restart 2 of 2\n")
    assert len(re.findall("^attempt [123], worker ", errors, re.MULTILINE)) == 6
    log = (logs / "worker-1.log").read_text().splitlines()
    assert [line.partition(",")[0] for line in log[::2]] == ["=== worker 1"] * 3
    assert [line.split(",")[1] for line in log[::2]] == [
        f" attempt {attempt}" for attempt in (1, 2, 3)
    ]
    assert [line.partition(" ")[0] for line in log[1::2]] == ["0", "1", "2"]
    assert len({line.partition(" ")[2] for line in log[1::2]}) == 3


def test_last_failure_counts_when_the_restarts_are_used_up(script):
    path = script("sys.exit(3 + int(os.environ['TFDP_RESTART_COUNT']))")
    result = launch("--workers", "1", "--max-restarts", "1", path)
    assert result.returncode == 4
    assert result.stderr.count("restart 1 of 1") == 1


def test_deadline_has_an_exit_code_of_its_own(script):
    path = script("print('up')\nif index: time.sleep(60)")
    options = ["--timeout", "1.5", "--max-restarts", "3"]
    result = launch("--workers", "2", *options, path)
    assert result.returncode == 124
    assert "the 1.5 s of all attempts have passed\n" in result.stderr
    assert "workers [1] still running" in result.stderr
    assert "restart" not in result.stderr


def test_stopped_worker_ends_the_job(script):
    path = script("import signal\nif index: os.kill(os.getpid(), 19)\n" + SLEEP)
    result = launch("--workers", "2", path)
    assert result.returncode == 128 + signal.SIGSTOP
    assert "Worker 1 has been stopped (SIGSTOP) for 3 s." in result.stderr


def test_variables_reach_the_workers(script):
    path = script("print(*[os.environ.get(n) for n in sys.argv[1:]])")
    options = ["--env", "A=1=2", "--env", "B=", "--start-timeout", "90"]
    names = ["A", "B", "TFDP_START_TIMEOUT", "TFDP_RESTART_COUNT"]
    result = launch("--workers", "1", *options, path, *names)
    assert result.stdout == "[worker 0] 1=2  90 0\n"


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        ("A", "it must be NAME=VALUE. Received: 'A'. NAME= sets"),
        ("=1", "it must be NAME=VALUE. Received: '=1'"),
        ("TF_CONFIG={}", "the launcher sets TF_CONFIG itself"),
        ("TFDP_WORKER_GROUP=x", "sets TFDP_WORKER_GROUP itself"),
        ("TFDP_RESTART_COUNT=x", "sets TFDP_RESTART_COUNT itself"),
    ],
)
def test_variable_must_have_a_name_that_is_free(script, value, rule):
    result = launch("--workers", "1", "--env", value, script(""))
    assert result.returncode == 2
    assert rule in " ".join(result.stderr.split())


def test_the_time_to_wait_is_given_once(script):
    variable = "TFDP_START_TIMEOUT=7"
    options = ["--start-timeout", "5", "--env", variable]
    result = launch("--workers", "1", *options, script(""))
    assert result.returncode == 2
    assert f"--start-timeout 5 and --env {variable}" in " ".join(
        result.stderr.split()
    )
    path = script("print(os.environ['TFDP_START_TIMEOUT'])")
    result = launch("--workers", "1", "--env", variable, path)
    assert result.stdout == "[worker 0] 7\n"


def free_port():
    with socket.socket() as holder:
        holder.bind(("", 0))
        return holder.getsockname()[1]


def test_machines_are_joined_by_hand(script):
    path = script("print(os.environ['TF_CONFIG'])")
    nodes = f"127.0.0.1:{free_port()},elsewhere:45"
    configs = []
    for rank, workers in [("0", ["--workers", "2"]), ("1", [])]:
        options = ["--nodes", nodes, "--node-rank", rank, *workers]
        result = launch(*options, path)
        assert result.returncode == 0
        for line in sorted(result.stdout.splitlines()):
            prefix, _, config = line.partition("] ")
            configs.append((prefix, json.loads(config)))
        warned = "elsewhere, which does not look like this" in result.stderr
        assert warned == (rank == "1")
    assert [prefix for prefix, _ in configs] == [
        "[worker 0",
        "[worker 1",
        "[worker 1",
    ]
    first, second = nodes.split(",")
    host, port = first.split(":")
    assert configs[1][1] == {
        "cluster": {
            "worker": [
                first,
                f"{host}:{int(port) + 1}",
                second,
                "elsewhere:46",
            ]
        },
        "task": {"type": "worker", "index": 1},
    }
    assert configs[2][1]["cluster"] == {"worker": [first, second]}


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ([], "Missing option '--workers' (or '--nodes'"),
        (["--nodes", "a:1"], "Received: --nodes only. Add the other"),
        (["--node-rank", "0"], "Received: --node-rank only. Add the other"),
        (["--nodes", "a:1", "--node-rank", "1"], "rank=1, with 1 node(s)"),
        (["--nodes", "a", "--node-rank", "0"], "Received: 'a'"),
        (["--workers", "1", "--cpus-per-worker", "99999"], "=99999 with 1"),
    ],
)
def test_place_of_the_workers_must_be_possible(script, options, rule):
    result = launch(*options, script(""))
    assert result.returncode == 2
    assert rule in " ".join(result.stderr.split())


def test_taken_port_is_told_before_anything_starts(script):
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        options = ["--nodes", f"127.0.0.1:{port}", "--node-rank", "0"]
        result = launch(*options, script("print('started')"))
    assert (result.returncode, result.stdout) == (2, "")
    assert f"address=127.0.0.1:{port}" in result.stderr
    assert f"process {os.getpid()}" in " ".join(result.stderr.split())


def test_log_that_cannot_be_written_is_told(script, tmp_path):
    if os.geteuid() == 0:
        folder = "/proc/no/such/folder"
    else:
        folder = tmp_path / "closed"
        folder.mkdir(mode=0o500)
    path = script("print('started')")
    result = launch("--workers", "1", "--log-dir", f"{folder}/logs", path)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: [Errno ")


def test_closed_output_ends_the_workers(script):
    path = script("print(os.getpid())\nwhile True: print('x')")
    command = [*LAUNCH, "--workers", "1", path]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as launcher:
        pid = launcher.stdout.readline().split()[-1]
        launcher.stdout.close()
        assert launcher.wait(timeout=60) == 1
        assert launcher.stderr.read() == ""
        assert is_gone(pid)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
@pytest.mark.parametrize("streams", [["stdout"], ["stdout", "stderr"]])
def test_output_to_a_full_disk_ends_no_training(script, tmp_path, streams):
    path = script(
        """
        for i in range(1000): print(i)
        time.sleep(0.5)
        print('end')
        """
    )
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [*LAUNCH, "--workers", "2", "--log-dir", tmp_path, path],
            **{
                "stdout": full,
                "stderr": full if "stderr" in streams else subprocess.PIPE,
            },
            text=True,
            timeout=120,
        )
    assert result.returncode == 0, result.stderr
    if result.stderr is not None:
        told, _, ended = result.stderr.splitlines()
        assert told.startswith("The output cannot be written (No space left")
        assert ended.startswith("2 workers ended after")
    for worker in range(2):
        lines = (tmp_path / f"worker-{worker}.log").read_text().splitlines()
        assert lines[1:] == [*map(str, range(1000)), "end"]


def test_character_the_terminal_lacks_does_not_end_the_workers(script):
    path = script("sys.stdout.buffer.write('━ 1/1\\n'.encode())")
    env = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    result = launch("--workers", "1", path, env=env)
    assert (result.returncode, result.stdout) == (0, "[worker 0] ? 1/1\n")


@pytest.mark.parametrize("count", ["0", "-1"])
def test_there_must_be_a_worker(script, count):
    result = launch("--workers", count, script(""))
    assert result.returncode == 2
    assert "there must be at least one worker" in result.stderr
    assert f"Received: {count}. Use 1" in result.stderr


@pytest.mark.parametrize(
    ("name", "what"), [("missing.py", "does not exist"), ("", "is a directory")]
)
def test_script_must_be_a_file(tmp_path, name, what):
    path = str(tmp_path / name)
    result = launch("--workers", "2", path)
    assert result.returncode == 2
    message = " ".join(result.stderr.split())
    assert f"it must be a Python file. Received: '{path}'" in message
    assert f"which {what} (in {os.getcwd()})" in message
    assert "Options of the launcher come before the script" in message


def test_misspelt_option_is_not_taken_for_the_script(script):
    result = launch("--worker", "2", script(""))
    assert result.returncode == 2
    assert "No such option" in result.stderr


def test_version_is_the_installed_one():
    command = [sys.executable, "-m", "tfdp.cli", "--version"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.startswith("tfdp, version 0.")


def test_isolated_workers_are_out_of_reach(script):
    if subprocess.run(["unshare", "-rn", "true"], check=False).returncode:
        pytest.skip("no network of one's own here")
    path = script(
        """
        import socket
        from tfdp.cluster import Cluster, meet
        meet(Cluster.from_environment(), timeout=60)
        print(*[name for _, name in socket.if_nameindex()])
        """
    )
    result = launch("--isolated", "--workers", "2", path)
    assert result.returncode == 0, result.stderr
    assert sorted(result.stdout.splitlines()) == [
        "[worker 0] lo",
        "[worker 1] lo",
    ]


def test_isolation_is_for_one_machine(script):
    result = launch(
        *("--isolated", "--nodes", "localhost:2222", "--node-rank", "0"),
        script(""),
    )
    assert result.returncode == 2
    said = " ".join(result.stderr.split())
    assert "--isolated is for workers of one machine. Received: " in said


def test_workers_started_together_share_a_secret_that_is_new(script):
    path = script("print(os.environ['TFDP_JOB_SECRET'])")
    secrets = [
        {
            line[11:]
            for line in launch("--workers", "2", path).stdout.split("\n")
        }
        - {""}
        for _ in range(2)
    ]
    assert [len(s) for s in secrets] == [1, 1]
    assert secrets[0] != secrets[1]
    assert all(len(secret) == 32 for s in secrets for secret in s)


def test_a_secret_of_ones_own_is_kept(script):
    path = script("print(os.environ['TFDP_JOB_SECRET'])")
    result = launch("--workers", "1", "--env", "TFDP_JOB_SECRET=mine", path)
    assert result.stdout == "[worker 0] mine\n"


FALLS = """
if index == 0:
    while not os.path.exists(ready): time.sleep(0.01)
    print('done')
elif index == 1:
    if os.environ['TFDP_RESTART_COUNT'] == '0':
        print('out of data')
        os.kill(os.getpid(), 9)
    open(ready, 'w').close()
"""


def test_asynchronous_workers_are_started_again_by_themselves(script):
    result = launch("--asynchronous", "--workers=2", script(FALLS))
    assert result.returncode == 0
    assert sorted(result.stdout.splitlines()) == [
        "[worker 0] done",
        "[worker 1] out of data",
    ]
    told = result.stderr.splitlines()
    assert told[0].startswith(
        "Worker 1 was killed by SIGKILL (exit code 137). "
    )
    assert told[0].endswith(
        "The others go on. It is started again in 1 s (restart 1 of 3)."
    )
    assert told[1:3] == ["Last lines of worker 1:", "  out of data"]
    assert [line.partition(" (")[0] for line in told[3:6]] == [
        "worker 0",
        "worker 1",
        "worker 1",
    ]
    assert re.fullmatch(
        r"2 workers ended after \d+ s: 1 restart \(worker 1: 1\)", told[6]
    )


def test_an_asynchronous_job_succeeds_with_its_chief(script):
    path = script("sys.exit(3) if index else time.sleep(1.5)")
    result = launch("--asynchronous", "--workers=3", "--max-restarts=0", path)
    assert result.returncode == 0
    assert result.stderr.count("The others go on without it.\n") == 2
    last = result.stderr.splitlines()[-1]
    assert re.fullmatch(
        r"3 workers ended after \d+ s: 2 lost \(worker 1, 2\)", last
    )


def test_a_lost_chief_has_all_started_again(script):
    path = script(
        """
        count = int(os.environ['TFDP_RESTART_COUNT'])
        if index == 1:
            print(os.getpid(), os.environ['TFDP_JOB_SECRET'])
            open(f'{ready}{count}', 'w').close()
            time.sleep(0 if count else 60)
        while not os.path.exists(f'{ready}{count}'): time.sleep(0.01)
        if index == 0 and count == 0:
            print(os.getpid())
            os.kill(os.getpid(), 9)
        """
    )
    begin = time.monotonic()
    result = launch("--asynchronous", "--workers=2", path)
    assert time.monotonic() - begin < 15
    assert result.returncode == 0
    (told,) = [
        line for line in result.stderr.splitlines() if "Worker 0" in line
    ]
    assert "was killed by SIGKILL" in told
    assert told.endswith(
        "It is the chief, without which nobody trains: all other workers "
        "were ended."
    )
    assert "restart 1 of 3\n" in result.stderr
    assert "Worker 1" not in result.stderr
    lines = [x.split() for x in result.stdout.splitlines() if "worker 1" in x]
    assert all(is_gone(pid) for _, _, pid, _ in lines)
    assert len({secret for *_, secret in lines}) == 2


def test_the_last_failure_of_the_chief_is_the_exit_code(script):
    path = script("sys.exit(5) if index == 0 else time.sleep(60)")
    result = launch("--asynchronous", "--workers=2", "--max-restarts=1", path)
    assert result.returncode == 5
    assert result.stderr.count("restart 1 of 1\n") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_to_the_launcher_end_asynchronous_workers(script, number):
    path = script(
        "print(os.getpid())\nif index < 2: time.sleep(60)\nsys.exit(3)"
    )
    command = [*LAUNCH, "--asynchronous", "--workers", "3", path]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as launcher:
        pids = [launcher.stdout.readline().split()[-1] for _ in range(3)]
        assert "Worker 2 failed with exit code 3." in launcher.stderr.readline()
        launcher.send_signal(number)
        _, errors = launcher.communicate(timeout=60)
    assert launcher.returncode == 128 + number
    assert all(map(is_gone, pids))
    assert "a second signal kills them\n" in errors


def test_who_runs_on_after_the_chief_has_the_grace_period(script):
    path = script("if index: time.sleep(60)")
    options = ["--workers=2", "--grace-seconds=0.7"]
    begin = time.monotonic()
    result = launch("--asynchronous", *options, path)
    assert result.returncode == 0
    assert time.monotonic() - begin < 30
    assert "It still ran 0.7 s after the chief had ended" in result.stderr


def test_the_secret_of_a_job_is_in_the_environment_alone(script, tmp_path):
    path = script(
        """
        import psutil
        secret = os.environ['TFDP_JOB_SECRET']
        for process in psutil.process_iter(['cmdline']):
            assert secret not in ' '.join(process.info['cmdline'] or ())
        print(len(secret))
        with open(f'{ready}{index}', 'w') as file: file.write(secret)
        sys.exit(index)
        """
    )
    logs = tmp_path / "logs"
    options = ["--workers=2", "--max-restarts=0", f"--log-dir={logs}"]
    result = launch("--asynchronous", *options, path)
    assert result.returncode == 0
    assert sorted(result.stdout.splitlines()) == [
        "[worker 0] 32",
        "[worker 1] 32",
    ]
    secrets = {(tmp_path / f"ready{i}").read_text() for i in range(2)}
    (secret,) = secrets
    written = [result.stdout, result.stderr]
    written += [file.read_text() for file in logs.iterdir()]
    assert len(written) == 4
    assert secret not in "".join(written)


def test_asynchronous_workers_of_several_nodes_need_one_secret(script):
    path = script("print(os.environ['TFDP_JOB_SECRET'])")
    nodes = f"127.0.0.1:{free_port()},elsewhere:45"
    options = ["--asynchronous", "--nodes", nodes, "--node-rank", "0", path]
    variables = {k: v for k, v in os.environ.items() if k != "TFDP_JOB_SECRET"}
    for without in ({}, {"TFDP_JOB_SECRET": ""}):
        result = launch(*options, env={**variables, **without})
        assert (result.returncode, result.stdout) == (2, "")
        assert (
            "must know one secret. Received: TFDP_JOB_SECRET unset or empty."
        ) in " ".join(result.stderr.split())
    result = launch(*options, env={**variables, "TFDP_JOB_SECRET": "of all"})
    assert result.stdout == "[worker 0] of all\n"
    # A node alone is none of several.
    alone = ["--nodes", nodes.split(",")[0], "--node-rank", "0", path]
    result = launch("--asynchronous", *alone, env=variables)
    assert (result.returncode, len(result.stdout)) == (0, 44)


def test_a_node_without_the_chief_fails_where_all_its_workers_do(script):
    path = script("sys.exit(index + 2)")
    nodes = f"elsewhere:45,127.0.0.1:{free_port()}"
    result = launch(
        *("--asynchronous", "--nodes", nodes, "--node-rank", "1"),
        *("--max-restarts=1", path),
        env={**os.environ, "TFDP_JOB_SECRET": "of all"},
    )
    assert result.returncode == 3
    assert result.stderr.count("Worker 1 failed with exit code 3.") == 2
    assert "1 lost (worker 1); 1 restart (worker 1: 1)" in result.stderr


def test_a_secret_is_no_argument_of_an_asynchronous_job(script):
    result = launch(
        *("--asynchronous", "--workers=1"),
        *("--env", "TFDP_JOB_SECRET=mine", script("print('started')")),
    )
    assert (result.returncode, result.stdout) == (2, "")
    said = " ".join(result.stderr.split())
    assert "Received: --env TFDP_JOB_SECRET=(not shown). Leave it out" in said
    assert "mine" not in said


TELL_MEMORY = """
    folder = os.environ.get("TFDP_MEMORY_FOLDER", "none")
    mode = os.stat(folder).st_mode & 0o777 if os.path.isdir(folder) else 0
    print(folder, oct(mode), flush=True)
"""


def memory_of(line):
    folder, mode = line.removeprefix("[worker 0] ").split()
    return folder, mode


def test_workers_that_may_be_restarted_have_one_folder_in_memory(script):
    path = script(
        TELL_MEMORY
        + """
    copy = os.path.join(folder, "copy")
    if not os.path.exists(copy):
        open(copy, "w").close()
        sys.exit(1)
    """
    )
    result = launch("--workers=1", "--max-restarts=1", path)
    assert result.returncode == 0
    first, second = map(memory_of, result.stdout.splitlines())
    assert first == second
    assert first[1] == "0o700"
    assert not os.path.exists(first[0])


def test_without_restarts_there_is_no_folder_in_memory(script):
    result = launch("--workers=1", script(TELL_MEMORY))
    assert memory_of(result.stdout) == ("none", "0o0")


@pytest.mark.parametrize("by", ["--env", "environment"])
def test_a_folder_in_memory_that_was_given_is_kept(script, tmp_path, by):
    folder = tmp_path / "mine"
    folder.mkdir(mode=0o700)
    variable = {"TFDP_MEMORY_FOLDER": str(folder)}
    options = [f"--env=TFDP_MEMORY_FOLDER={folder}"] if by == "--env" else []
    env = {**os.environ, **({} if options else variable)}
    path = script(TELL_MEMORY)
    result = launch("--workers=1", "--max-restarts=1", *options, path, env=env)
    assert memory_of(result.stdout) == (str(folder), "0o700")
    assert folder.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_folder_in_memory_goes_with_the_launcher(script, number):
    path = script(TELL_MEMORY + "    time.sleep(60)")
    command = [*LAUNCH, "--workers=1", "--max-restarts=1", path]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as launcher:
        folder, _ = memory_of(launcher.stdout.readline())
        assert os.path.isdir(folder)
        launcher.send_signal(number)
        launcher.communicate(timeout=60)
    wait_until(lambda: not os.path.exists(folder))


def test_without_a_folder_in_memory_the_workers_run(script, monkeypatch):
    code = (
        "import tempfile; from tfdp.cli import main;"
        "tempfile.mkdtemp = lambda **_: open('/no/such/folder'); main()"
    )
    command = [sys.executable, "-c", code, "launch", "--workers=1"]
    result = subprocess.run(
        [*command, "--max-restarts=1", script(TELL_MEMORY)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0
    assert memory_of(result.stdout) == ("none", "0o0")
    assert "Warning: no folder in memory for backups (" in result.stderr


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_boards_are_removed_with_the_launcher(script, number):
    path = script("print(os.environ['TFDP_BOARD']); time.sleep(60)")
    with subprocess.Popen(
        [*LAUNCH, "--workers=1", path],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as launcher:
        board = launcher.stdout.readline().split()[-1]
        assert os.path.isfile(board)
        launcher.send_signal(number)
        wait_until(lambda: not os.path.exists(os.path.dirname(board)))


def test_workers_have_no_board_of_the_launchers_own(script, monkeypatch):
    monkeypatch.setenv("TFDP_BOARD", "/elsewhere")
    result = launch("--workers", "1", script("print(os.environ['TFDP_BOARD'])"))
    assert result.stdout.strip().endswith("/worker-0")
