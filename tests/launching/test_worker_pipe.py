"""What a worker prints without end, and what it leaves behind."""

import os
import pathlib
import subprocess
import sys
import textwrap
import time

import psutil
import pytest

from tfdp.launching.worker_group import WorkerGroup
from tfdp.launching.worker_pipe import WorkerPipe

needs_proc = pytest.mark.skipif(
    not os.path.exists("/proc/self/status"), reason="no /proc"
)


def heard(*texts, longest=8):
    """What comes of texts that are written, a part and whether it ends."""
    parts = []
    reading, writing = os.pipe()
    pipe = WorkerPipe(
        reading,
        lambda part, is_end: parts.append((part, is_end)),
        longest_line=longest,
    )
    for text in texts:
        os.write(writing, text)
    os.close(writing)
    assert pipe.close() == []
    return parts


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (b"", []),
        (b"\n", [("", True)]),
        (b"ab\ncd", [("ab", True), ("cd", True)]),
        (b"12345678\n9", [("12345678", True), ("9", True)]),
        (b"123456789", [("12345678", False), ("9", True)]),
        (b"12345678" * 2, [("12345678", False), ("12345678", True)]),
        (b"a\r\nb\rc\n", [("a", True), ("b", True), ("c", True)]),
        ("äöü".encode(), [("äöü", True)]),
        (b"a\xff", [("a\ufffd", True)]),
    ],
)
def test_lines_are_cut_where_they_are_too_long(text, parts):
    assert heard(text) == parts
    assert heard(*(text[i : i + 1] for i in range(len(text)))) == parts


MEASURED = """
import pathlib, re, sys
from tfdp.launching.worker_group import WorkerGroup

def peak():
    status = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", status)[1]) * 1024

worker = "import sys; [sys.stdout.write('x' * 10**6) for _ in range(50)]"
before = peak()
heard = []
with WorkerGroup(
    [sys.executable, "-c", worker], 1, log_dir=sys.argv[1],
    on_line=lambda worker, line: heard.append(len(line)),
) as group:
    assert group.wait(100) is None
assert sum(heard) == 50 * 10**6, sum(heard)
assert max(heard) == 64 * 1024, max(heard)
print(peak() - before)
"""


@needs_proc
def test_a_line_without_end_takes_no_memory_and_is_whole_in_its_file(tmp_path):
    result = subprocess.run(
        [sys.executable, "-c", MEASURED, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) < 12 * 2**20
    _, line = (tmp_path / "worker-0.log").read_text().splitlines()
    assert line == "x" * 50 * 10**6


# Left by its parent, its session and the variables that it is known by.
DAEMON = """
import os, subprocess, sys
print("before", end="", flush=True)
daemon = subprocess.Popen(
    [sys.executable, "-c", "import time; time.sleep(60)"],
    env={}, start_new_session=True,
)
with open(os.environ["PIDS"], "a") as file:
    print(daemon.pid, file=file)
"""


@needs_proc
def test_a_process_that_was_left_is_named_and_not_waited_for(tmp_path, capsys):
    pids = tmp_path / "pids"
    lines = []
    began = time.monotonic()
    try:
        with WorkerGroup(
            [sys.executable, "-c", textwrap.dedent(DAEMON)],
            2,
            env={"PIDS": str(pids)},
            on_line=lambda worker, line: lines.append(line),
        ) as group:
            assert group.wait(60) is None
        # Of which Python takes the most, to start.
        assert time.monotonic() - began < 5
        told = capsys.readouterr().err
        assert lines == ["before", "before"]
        left = pathlib.Path(pids).read_text().split()
        assert len(left) == 2
        for pid in left:
            assert told.count(f"(process {pid})") == 1
        assert "Worker 0 has left a process that runs on" in told
    finally:
        for pid in pids.read_text().split():
            psutil.Process(int(pid)).kill()
