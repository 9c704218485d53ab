"""Backups are written while training goes on; those that are not are told."""

import os
import resource
import shutil
import threading
import warnings

import numpy as np
import pytest

from tfdp.backup import backup_writer
from tfdp.backup.backup_folder import Backup, BackupFolder
from tfdp.backup.backup_writer import BackupWriter


def backup(number, size=3):
    return Backup({"weight": np.full(size, number)}, {"epoch": number})


@pytest.fixture
def folder(tmp_path):
    return BackupFolder(tmp_path / "backups", keep=9)


@pytest.fixture
def disk(monkeypatch):
    """A disk that has written nothing before it is let go on."""

    class Disk:
        may_go_on = threading.Event()
        begun = threading.Semaphore(0)

    fsync = os.fsync

    def slow(descriptor):
        Disk.begun.release()
        assert Disk.may_go_on.wait(60)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", slow)
    yield Disk
    Disk.may_go_on.set()


def test_it_writes_while_the_caller_goes_on(folder, disk):
    writer = BackupWriter(folder)
    writer.save(1, backup(1))
    assert disk.begun.acquire(timeout=60)
    writer.look()
    assert folder.newest() is None
    disk.may_go_on.set()
    writer.wait()
    assert folder.newest().about == {"epoch": 1}


def test_the_next_waits_for_the_one_before(folder, disk):
    """So that each is written, and only one is held."""
    writer = BackupWriter(folder)
    writer.save(1, backup(1))
    second = threading.Thread(target=writer.save, args=(2, backup(2)))
    second.start()
    assert disk.begun.acquire(timeout=60)
    second.join(0.2)
    assert second.is_alive()
    disk.may_go_on.set()
    second.join()
    writer.wait()
    assert len(list(folder.path.iterdir())) == 2


def test_another_writer_of_the_folder_is_waited_for(folder, disk):
    """As that of a `fit` that was aborted."""
    BackupWriter(folder).save(1, backup(1))
    other = threading.Thread(target=BackupWriter(folder).wait)
    other.start()
    other.join(0.2)
    assert other.is_alive()
    disk.may_go_on.set()
    other.join()
    assert folder.newest().about == {"epoch": 1}


def test_training_that_waits_long_is_told_once(
    folder, disk, monkeypatch, capsys
):
    monkeypatch.setattr(backup_writer, "_LONG_SECONDS", 0.0)
    disk.may_go_on.set()
    writer = BackupWriter(folder)
    for number in range(3):
        writer.save(number, backup(number))
    writer.wait()
    assert capsys.readouterr().out.count("Training has waited") == 1


def failures(writer, *numbers, is_last=False):
    """Saves, and returns what is told."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for number in numbers:
            writer.save(number, backup(number, size=10_000))
        writer.wait(is_last=is_last)
    return [str(warning.message) for warning in caught]


@pytest.fixture
def small_files():
    """No file may have more than 4 KiB, as if the disk were full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def let_files_grow():
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


def test_a_disk_that_fills_is_told_and_tried_again(folder, small_files):
    writer = BackupWriter(folder)
    (told,) = failures(writer, 1, 2, 3)
    assert told == (
        "A backup must be written to be resumed from. Received: "
        f"{folder.path} (File too large). Training goes on with the backups "
        "before, and tries again when the next is due; make room, or give "
        "another `backup_dir`."
    )
    assert not list(folder.path.iterdir())
    let_files_grow()
    assert failures(writer, 4) == []
    assert folder.newest().about == {"epoch": 4}


def test_it_is_told_again_when_something_has_changed(folder, small_files):
    writer = BackupWriter(folder)
    assert len(failures(writer, 1)) == 1
    shutil.rmtree(folder.path)
    folder.path.write_text("")
    (told,) = failures(writer, 2, 3)
    assert "File exists" in told
    folder.path.unlink()
    let_files_grow()
    assert failures(writer, 4) == []
    shutil.rmtree(folder.path)
    folder.path.write_text("")
    assert len(failures(writer, 5)) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another")
def test_a_folder_that_may_not_be_written_to_is_told(folder):
    folder.check()
    folder.path.chmod(0o500)
    os.seteuid(65534)
    try:
        (told,) = failures(BackupWriter(folder), 1)
    finally:
        os.seteuid(0)
    assert "Permission denied" in told


def test_at_the_end_it_is_told_in_any_case(folder, small_files):
    writer = BackupWriter(folder)
    failures(writer, 1)
    (told,) = failures(writer, 2, is_last=True)
    assert "would be resumed from the one before, if there is one" in told
    # Nothing is left that could be tried again.
    assert len(failures(writer, is_last=True)) == 1
    assert writer.has_failed
    let_files_grow()
    assert failures(writer, 3, is_last=True) == []
    assert not writer.has_failed


def test_other_errors_are_those_of_the_caller(folder):
    writer = BackupWriter(folder)
    writer.save(1, Backup({}, {"epoch": object()}))
    with pytest.raises(TypeError, match="not JSON serializable"):
        writer.wait()
    assert failures(writer, 2) == []
