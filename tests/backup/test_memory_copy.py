"""Of two copies in memory one is whole, whenever its writer is killed."""

import errno
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import warnings

import numpy as np
import psutil
import pytest

from tfdp.backup.backup_folder import Backup
from tfdp.backup.memory import MemoryCopy, memory_copy, memory_file


def backup(number, size=3):
    arrays = {"weight": np.full(size, number)}
    return Backup(arrays, {"epoch": number}).as_arrays()


def newest(copy):
    return copy.newest(Backup.of_arrays)


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "memory"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
def copy(folder):
    """Two backups, of which the second is the newest."""
    copy = MemoryCopy(folder, pathlib.Path("run"))
    copy.save(backup(1))
    copy.save(backup(2))
    return copy


def newest_path(folder):
    """The file that the second backup is in: times of two may be the same."""
    (path,) = folder.glob("*-1.copy")
    return path


def test_the_newest_backup_is_read_bit_by_bit(folder):
    arrays = {
        "special": np.array([np.nan, -0.0, np.inf], "float32"),
        "scalar": np.array(7, "int64"),
        "none": np.zeros((0, 3), "float16"),
        "of bytes": np.arange(13, dtype="uint8"),
        "turned": np.arange(12.0).reshape(3, 4).T,
        "text": np.array(["a", "bcd"]),
        "é/with a slash": np.array([True, False]),
    }
    about = {"epoch": 2, "history": {"loss": [0.1, float("inf")]}, "é": None}
    copy = MemoryCopy(folder, pathlib.Path("run"))
    copy.save(Backup(arrays, about).as_arrays())
    found = newest(MemoryCopy(folder, pathlib.Path("run")))
    assert found.about == about
    assert list(found.arrays) == list(arrays)
    for name, array in arrays.items():
        read = found.arrays[name]
        assert (read.dtype, read.shape) == (array.dtype, array.shape)
        assert read.tobytes() == array.tobytes()


def test_two_files_take_turns(folder, copy):
    for number in range(3, 8):
        MemoryCopy(folder, pathlib.Path("run")).save(backup(number))
        assert newest(copy).about == {"epoch": number}
    assert len(list(folder.iterdir())) == 2


def test_each_run_has_its_own(folder, copy):
    other = MemoryCopy(folder, pathlib.Path("other"))
    assert newest(other) is None
    other.save(backup(9))
    assert newest(copy).about == {"epoch": 2}
    copy.delete()
    assert (newest(copy), newest(other).about) == (None, {"epoch": 9})
    other.delete()
    assert not list(folder.iterdir())


WRITER = """
    import os, pathlib, signal, sys
    import numpy as np
    from tfdp.backup.memory import MemoryCopy, memory_file

    left = int(sys.argv[2])

    class Counting:
        def __getattr__(self, name):
            return getattr(os, name)

        def pwrite(self, descriptor, part, place):
            global left
            if len(part) >= left:
                os.pwrite(descriptor, part[:left], place)
                os.kill(os.getpid(), signal.SIGKILL)
            left -= len(part)
            return os.pwrite(descriptor, part, place)

    memory_file.os = Counting()
    new = {"weight": np.full(1000, 3), "b": np.ones(5)}
    for place in range(2):
        MemoryCopy(pathlib.Path(sys.argv[1]), pathlib.Path("run")).save(new)
"""


def test_a_writer_that_is_killed_leaves_the_other(folder, copy):
    """With half of an array written, by a process of its own."""
    command = [sys.executable, "-c", textwrap.dedent(WRITER), folder, "4000"]
    killed = subprocess.run(command, check=False, stderr=subprocess.DEVNULL)
    assert killed.returncode == -signal.SIGKILL
    assert newest(copy).about == {"epoch": 2}
    copy.save(backup(4))
    assert newest(copy).about == {"epoch": 4}


class Stopped(BaseException):
    """The end of a process, at any place."""


def test_it_may_be_killed_after_any_byte(folder, copy, monkeypatch):
    before = {path: path.read_bytes() for path in folder.iterdir()}
    passed_over = 0
    for written in range(400):
        for path, octets in before.items():
            path.write_bytes(octets)
        left = written

        class Stopping:
            def __getattr__(self, name):
                return getattr(os, name)

            def pwrite(self, descriptor, part, place):
                nonlocal left
                octets = bytes(part)[:left]
                os.pwrite(descriptor, octets, place)
                left -= len(octets)
                if len(octets) < len(bytes(part)):
                    raise Stopped
                return len(octets)

        with monkeypatch.context() as patch:
            patch.setattr(memory_file, "os", Stopping())
            try:
                copy.save(backup(3))
                number = 3
            except Stopped:
                number, passed_over = 2, passed_over + 1
        # Nothing is told, as nothing is damaged.
        found = newest(copy)
        assert found.about == {"epoch": number}
        assert found.arrays["weight"].tolist() == [number] * 3
    assert 100 < passed_over < 400


@pytest.mark.parametrize("flipped", [0b1, 0b1000, 0b11111111])
def test_no_flipped_bit_is_taken_for_a_backup(folder, copy, flipped):
    path = newest_path(folder)
    whole = path.read_bytes()
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= flipped
        path.write_bytes(damaged)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert newest(copy).about == {"epoch": 1}


def rewritten(path, backup_of_rows):
    """Writes a file that adds up, whatever it says."""
    head = memory_file.Head.of_file(path)
    octets = path.read_bytes()[-head.size :]
    table = backup_of_rows
    new = memory_file.Head(
        head.order + 2,
        len(table),
        head.size,
        memory_file.zlib.crc32(table),
        head.check,
    )
    path.write_bytes(new.to_bytes() + table + octets)


@pytest.mark.parametrize(
    "table",
    [
        b"",
        b"{",
        b"7",
        b"[{}]",
        b'[["about", "|u1", [2]]]',
        b'[["weight", "O", [3]]]',
        b'[["weight", "<i8", [-3]]]',
        b'[["weight", "<i8", [300000000000]]]',
        b'[["weight", "<i8", [2]]]',
        b'[["weight", "no type", [3]]]',
        b'[["weight", "<i8"]]',
        b"[" * 100_000,
    ],
)
def test_what_cannot_be_is_passed_over(folder, copy, table):
    rewritten(newest_path(folder), table)
    with pytest.warns(UserWarning, match="must be readable") as caught:
        found = newest(copy)
    (warning,) = caught
    assert f"in memory, {newest_path(folder)} (" in str(warning.message)
    assert found.about == {"epoch": 1}


def test_what_the_check_refuses_is_passed_over(copy):
    def read(arrays):
        backup = Backup.of_arrays(arrays)
        if backup.about["epoch"] == 2:
            raise ValueError("`epoch` is 2")
        return backup

    with pytest.warns(UserWarning, match="`epoch` is 2"):
        assert copy.newest(read).about == {"epoch": 1}


@pytest.mark.parametrize("size", [0, 10, 60, 100])
def test_a_truncated_file_is_passed_over(folder, copy, size):
    path = newest_path(folder)
    path.write_bytes(path.read_bytes()[:size])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert newest(copy).about == {"epoch": 1}


def test_a_link_is_not_followed(folder, copy):
    path = newest_path(folder)
    path.rename(folder / "elsewhere")
    path.symlink_to(folder / "elsewhere")
    assert newest(copy).about == {"epoch": 1}
    with pytest.raises(OSError, match="symbolic links"):
        copy.save(backup(3))
    assert newest(copy).about == {"epoch": 1}


class Little:
    """A machine with so much memory left."""

    available = 1000


def test_room_for_two_is_needed(folder, monkeypatch):
    copy = MemoryCopy(folder, pathlib.Path("run"))
    with monkeypatch.context() as patch:
        patch.setattr(psutil, "virtual_memory", Little)
        with pytest.raises(OSError, match="0 MB are free in .* two copies of"):
            copy.save(backup(1, size=100))
        assert not list(folder.iterdir())
        copy.save(backup(1, size=10))
    copy.save(backup(2, size=10))
    # What is there needs no more.
    monkeypatch.setattr(psutil, "virtual_memory", Little)
    copy.save(backup(3, size=10))


def test_a_file_system_that_fills_leaves_the_other(folder, copy, monkeypatch):
    class Full:
        def __getattr__(self, name):
            return getattr(os, name)

        def pwrite(self, descriptor, part, place):
            if place:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return os.pwrite(descriptor, part, place)

    with monkeypatch.context() as patch:
        patch.setattr(memory_file, "os", Full())
        with pytest.raises(OSError, match="No space left"):
            copy.save(backup(3))
    assert newest(copy).about == {"epoch": 2}
    assert sorted(path.stat().st_size > 0 for path in folder.iterdir()) == [
        False,
        True,
    ]


@pytest.mark.parametrize("wrong", ["missing", "a file", "open", "a link"])
def test_a_folder_that_others_can_enter_is_not_used(folder, wrong):
    path = folder / "inside"
    if wrong == "a file":
        path.write_text("")
    elif wrong == "open":
        path.mkdir()
        path.chmod(0o750)
    elif wrong == "a link":
        path.symlink_to(folder)
    with pytest.warns(UserWarning, match="must name a folder") as caught:
        assert MemoryCopy.opened(str(path), pathlib.Path("run")) is None
    assert str(path) in str(caught[0].message)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_folder_of_another_user_is_not_used(folder):
    os.chown(folder, 65534, 65534)
    with pytest.warns(UserWarning, match="which others own"):
        assert MemoryCopy.opened(str(folder), pathlib.Path("run")) is None


def test_without_a_name_there_is_none(folder):
    assert MemoryCopy.opened("", pathlib.Path("run")) is None
    copy = MemoryCopy.opened(str(folder), pathlib.Path("run"))
    assert isinstance(copy, memory_copy.MemoryCopy)
    copy.save(backup(1))
    assert all(p.stat().st_mode & 0o777 == 0o600 for p in folder.iterdir())
