"""The fixtures that pytest gets from an installed tfdp."""

import os
import subprocess
import sys
import textwrap

import pytest

pytest_plugins = ["pytester"]


@pytest.fixture
def run(pytester):
    """Runs pytest with the plugin on the code of a test module."""

    def run(code, *options, ini=""):
        pytester.makeini(f"[pytest]\n{ini}\n")
        pytester.makepyfile(textwrap.dedent(code))
        return pytester.runpytest("-p", "tfdp_pytest", *options)

    return run


LOAD = """
import sys
import pytest
pytest.main(["-p", "tfdp_pytest", "--fixtures"])
print("imported:", *sys.modules)
"""


def test_plugin_imports_nothing_that_takes_time(pytester):
    pytester.makeini("[pytest]\n")
    result = subprocess.run(
        [sys.executable, "-c", LOAD],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=pytester.path,
        check=True,
    )
    fixtures, _, modules = result.stdout.rpartition("imported:")
    assert "run_workers" in fixtures
    assert "logical_cpus" in fixtures
    packages = {name.partition(".")[0] for name in modules.split()}
    assert "tfdp.testing.plugin" in modules.split()
    assert packages & {"keras", "numpy", "psutil", "tensorflow"} == set()


def test_function_of_the_test_module_runs_as_workers(run):
    result = run(
        """
        import json
        import os
        import sys

        MINE = 7

        def place(*args):
            task = json.loads(os.environ["TF_CONFIG"])["task"]
            return [task["index"], MINE, list(args)]

        def test_place(run_workers):
            args = [1, {"a": None}]
            expected = [[0, 7, args], [1, 7, args]]
            assert run_workers(place, 2, args) == expected
        """
    )
    result.assert_outcomes(passed=1)


def test_script_runs_as_workers(run, tmp_path):
    path = tmp_path / "script.py"
    path.write_text("import sys; print('[tfdp report]', sys.argv[1])")
    result = run(
        f"""
        def test_script(run_workers):
            assert run_workers({str(path)!r}, 2, ["3"]) == [3, 3]
        """
    )
    result.assert_outcomes(passed=1)


def test_failing_worker_is_shown_with_its_log(run, pytester):
    result = run(
        """
        import json
        import os
        import sys
        import time

        def fails():
            index = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
            print("hello from", index)
            if index == 1:
                sys.exit("wrong weights")
            time.sleep(60)

        def test_fails(run_workers):
            run_workers(fails, 2)
        """,
        "--basetemp=kept",
    )
    result.assert_outcomes(failed=1)
    log = pytester.path / "kept" / "test_fails0" / "workers-1"
    result.stdout.fnmatch_lines(
        [
            "E * Every worker of fails must end with exit code 0. Received: "
            "Worker 1 failed with exit code 1.*",
            "E * Last lines of worker 1:",
            "E * hello from 1",
            "E * wrong weights",
            f"E * All that the workers printed: {log}",
        ]
    )
    assert "wrong weights" in (log / "worker-1.log").read_text()
    assert "hello from 0" in (log / "worker-0.log").read_text()


WAITS = """
    import json
    import os
    import time

    def waits():
        print(os.getpid(), flush=True)
        if json.loads(os.environ["TF_CONFIG"])["task"]["index"] == 1:
            time.sleep(60)

    def test_waits(run_workers):
        run_workers(waits, 2)
"""


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("options", "ini", "seconds"),
    [
        (["--tfdp-timeout=1.5"], "tfdp_timeout = 600", "1.5"),
        ([], "tfdp_timeout = 2", "2"),
    ],
)
def test_deadline_names_the_worker_that_still_runs(
    run, pytester, options, ini, seconds
):
    result = run(WAITS, "--basetemp=kept", *options, ini=ini)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            f"E * Workers must end within timeout={seconds} seconds. Received: "
            "workers [[]1[]] still running; *",
            "E * All that the workers printed: *workers-1",
        ]
    )
    for log in (pytester.path / "kept" / "test_waits0").glob("*/*.log"):
        pid = int(log.read_text().splitlines()[1])
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_deadline_of_the_call_goes_before(run):
    code = WAITS.replace("waits, 2)", "waits, 2, timeout=1.25)")
    result = run(code, "--tfdp-timeout=600")
    result.stdout.fnmatch_lines(["E *within timeout=1.25 seconds.*"])


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "soon"])
@pytest.mark.parametrize("is_option", [True, False])
def test_deadline_is_a_positive_number(run, text, is_option):
    if is_option:
        name, result = "--tfdp-timeout", run("", f"--tfdp-timeout={text}")
    else:
        name, result = "tfdp_timeout", run("", ini=f"tfdp_timeout = {text}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [
            f"ERROR: {name} must be a positive number of seconds. Received: "
            f"{name}={text}. Leave it out for 120."
        ]
    )


def test_logical_cpus_are_those_of_tfdp(run):
    result = run(
        """
        def test_cpus(logical_cpus):
            assert logical_cpus(4) == ["CPU:0", "CPU:1", "CPU:2", "CPU:3"]
        """
    )
    result.assert_outcomes(passed=1)
