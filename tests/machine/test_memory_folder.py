"""A folder in memory is private, and goes with the process that made it."""

import os
import signal
import stat
import subprocess
import sys
import textwrap
import time

import pytest

from tfdp.machine import MemoryFolder


def wait_until(claim, seconds=30):
    deadline = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def test_it_is_private_and_removed_with_what_is_in_it(tmp_path):
    with MemoryFolder(env=os.environ, where=str(tmp_path)) as folder:
        assert folder.path.parent == tmp_path
        assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
        (folder.path / "copy").write_text("")
    assert not list(tmp_path.iterdir())
    folder.close()


OWNER = """
    import os, signal, sys, time
    from tfdp.machine import MemoryFolder

    folder = MemoryFolder(env=os.environ, where=sys.argv[1])
    (folder.path / "copy").write_text("")
    print(folder.path, flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_is_removed_when_its_owner_is_killed(tmp_path, number):
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(OWNER), tmp_path],
        stdout=subprocess.PIPE,
        text=True,
    ) as owner:
        path = owner.stdout.readline().strip()
        assert os.listdir(path) == ["copy"]
        owner.send_signal(number)
    wait_until(lambda: not os.path.exists(path))


def test_without_a_place_in_memory_it_is_a_temporary_one(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with MemoryFolder(env={}, where=str(tmp_path / "none")) as folder:
        assert folder.path.parent == tmp_path


def test_nothing_is_left_where_its_keeper_cannot_start(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    with pytest.raises(OSError, match="No such file"):
        MemoryFolder(env={}, where=str(tmp_path))
    assert not list(tmp_path.iterdir())
