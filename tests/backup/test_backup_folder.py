"""Backups are whole or passed over, and those that count are kept."""

import contextlib
import errno
import json
import os
import warnings

import numpy as np
import pytest

from tfdp.backup.backup_folder import Backup, BackupFolder
from tfdp.backup.contents import check_contents


def backup(number):
    return Backup({"weight": np.full(3, number)}, {"epoch": number})


@pytest.fixture
def folder(tmp_path):
    """Two backups, of updates 1 and 2."""
    folder = BackupFolder(tmp_path / "new" / "backups", keep=2)
    folder.save(1, backup(1))
    folder.save(2, backup(2))
    return folder


def names(folder):
    return sorted(path.name for path in folder.path.iterdir())


def newest_path(folder):
    return folder.path / "backup-0000000002.npz"


def assert_first_is_used(folder):
    with pytest.warns(UserWarning, match="must be readable") as caught:
        found = folder.newest()
    (warning,) = caught
    message = str(warning.message)
    assert f"Received: a damaged {newest_path(folder)} (" in message
    assert "The one before is used instead, if there is one." in message
    assert found.about == {"epoch": 1}
    np.testing.assert_array_equal(found.arrays["weight"], [1, 1, 1])


def test_the_newest_backup_is_read_bit_by_bit(tmp_path):
    arrays = {
        "special": np.array([np.nan, -0.0, np.inf], "float32"),
        "scalar": np.array(7, "int64"),
        "none": np.zeros((0, 3), "float16"),
        "a name/with a slash": np.array([True, False]),
    }
    about = {"epoch": 2, "history": {"loss": [0.1, float("inf")]}, "é": None}
    folder = BackupFolder(tmp_path, keep=1)
    folder.save(3, Backup(arrays, about))
    found = BackupFolder(tmp_path, keep=1).newest()
    assert found.about == about
    assert found.arrays.keys() == arrays.keys()
    for name, array in arrays.items():
        read = found.arrays[name]
        assert (read.dtype, read.shape) == (array.dtype, array.shape)
        assert read.tobytes() == array.tobytes()


def test_backups_are_ordered_by_their_updates(tmp_path):
    folder = BackupFolder(tmp_path, keep=3)
    for update in (9, 10, 1000):
        folder.save(update, backup(update))
    assert folder.newest().about == {"epoch": 1000}


@pytest.mark.parametrize(
    "name",
    ["x", "best", "0000000002 (copy)", "٣", "-1", "0000000003-old", "1" * 200],
)
def test_a_file_whose_name_tells_no_update_is_passed_over(folder, name):
    other = folder.path / f"backup-{name}.npz"
    other.write_bytes((folder.path / "backup-0000000001.npz").read_bytes())
    with pytest.warns(UserWarning, match="must be readable") as caught:
        found = folder.newest()
    (warning,) = caught
    assert (
        f"Received: a damaged {other} (ValueError: its name is not "
        "backup-NUMBER.npz)" in str(warning.message)
    )
    assert found.about == {"epoch": 2}
    # It is none of those that are counted, and not ours to remove.
    folder.save(3, backup(3))
    assert len(names(folder)) == 3
    folder.delete()
    assert names(folder) == [other.name]


def test_updates_are_ordered_as_numbers(tmp_path):
    folder = BackupFolder(tmp_path, keep=3)
    for update in (9_999_999_999, 10_000_000_000):
        folder.save(update, backup(update % 1000))
    (tmp_path / "backup-7.npz").write_bytes(
        (tmp_path / "backup-9999999999.npz").read_bytes()
    )
    assert folder.newest().about == {"epoch": 0}


def test_a_missing_or_empty_folder_has_no_backup(tmp_path):
    missing = BackupFolder(tmp_path / "missing", keep=1)
    assert missing.newest() is None
    assert not missing.path.exists()
    assert BackupFolder(str(tmp_path), keep=1).newest() is None


@pytest.mark.parametrize("keep", [1, 3])
def test_as_many_are_kept_as_were_asked_for(tmp_path, keep):
    folder = BackupFolder(tmp_path, keep=keep)
    for update in range(5):
        folder.save(update, backup(update))
    kept = [f"backup-{update:010d}.npz" for update in range(5 - keep, 5)]
    assert names(folder) == kept


def test_a_backup_of_the_same_update_takes_its_place(folder):
    folder.save(2, backup(7))
    assert len(names(folder)) == 2
    assert folder.newest().about == {"epoch": 7}


class Stopped(BaseException):
    """The end of a process, at any place."""


@pytest.mark.parametrize("place", ["numpy.savez", "os.fsync"])
def test_a_write_that_is_cut_short_leaves_the_backups_as_they_were(
    folder, monkeypatch, place
):
    def stop(*args, **kwargs):
        raise Stopped

    with monkeypatch.context() as patch, contextlib.suppress(Stopped):
        patch.setattr(place, stop)
        folder.save(3, backup(3))
    assert names(folder)[:2] == [
        "backup-0000000001.npz",
        newest_path(folder).name,
    ]
    assert folder.newest().about == {"epoch": 2}
    folder.save(3, backup(3))
    assert folder.newest().about == {"epoch": 3}


def test_an_error_of_json_leaves_the_backups_as_they_were(folder):
    with pytest.raises(TypeError, match="not JSON serializable"):
        folder.save(3, Backup({}, {"epoch": object()}))
    assert len(names(folder)) == 2
    assert folder.newest().about == {"epoch": 2}


@pytest.mark.parametrize("size", [0, 1, 30, 300, -1])
def test_a_truncated_backup_is_passed_over(folder, size):
    path = newest_path(folder)
    path.write_bytes(path.read_bytes()[:size])
    assert_first_is_used(folder)


@pytest.mark.parametrize(
    "content", [b"no archive", b"\x93NUMPY", b"PK\x03\x04", b"\0" * 512]
)
def test_what_is_no_backup_is_passed_over(folder, content):
    newest_path(folder).write_bytes(content)
    assert_first_is_used(folder)


def test_a_folder_with_the_name_of_a_backup_is_passed_over(folder):
    newest_path(folder).unlink()
    newest_path(folder).mkdir()
    assert_first_is_used(folder)


@pytest.mark.parametrize(
    "about", [b"", b"{", b"\xff", b"7", b"[{}]", b'[{}, ["weight", "bias"]]']
)
def test_a_backup_whose_json_is_wrong_is_passed_over(folder, about):
    np.savez(
        newest_path(folder),
        weight=np.zeros(3),
        about=np.frombuffer(about, np.uint8),
    )
    assert_first_is_used(folder)


def test_a_backup_that_says_nothing_of_itself_is_passed_over(folder):
    np.savez(newest_path(folder), weight=np.zeros(3))
    assert_first_is_used(folder)


@pytest.mark.parametrize("flipped", [0b1, 0b1000, 0b11111111])
def test_no_flipped_bit_is_taken_for_a_backup(folder, flipped):
    """Wherever it is: the backup is the one that was saved, or passed over."""
    path = newest_path(folder)
    whole = path.read_bytes()
    passed_over = 0
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= flipped
        path.write_bytes(damaged)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = folder.newest()
        number = found.about["epoch"]
        assert found.arrays["weight"].tolist() == [number] * 3
        assert number == (1 if caught else 2)
        passed_over += number == 1
    # The rest is what no reader looks at, such as the time of the file.
    assert passed_over > len(whole) / 2


def test_there_is_no_backup_where_all_are_damaged(folder):
    for path in folder.path.iterdir():
        path.write_bytes(b"")
    with pytest.warns(UserWarning, match="must be readable") as caught:
        assert folder.newest() is None
    assert len(caught) == 2


def test_a_damaged_backup_takes_no_place_of_those_kept(tmp_path):
    """Training goes on from an older one, so that the damaged comes later."""
    folder = BackupFolder(tmp_path, keep=1)
    folder.save(20, backup(20))
    (path,) = tmp_path.iterdir()
    path.write_bytes(b"")
    folder.save(10, backup(10))
    with pytest.warns(UserWarning, match="must be readable"):
        assert folder.newest().about == {"epoch": 10}
    folder.save(30, backup(30))
    assert names(folder) == ["backup-0000000030.npz"]


def test_deleting_removes_backups_and_what_was_unfinished(folder):
    (folder.path / "backup-0000000003.unfinished").write_bytes(b"half")
    folder.delete()
    assert not folder.path.exists()
    assert folder.path.parent.exists()


def test_deleting_leaves_the_files_of_others(folder):
    (folder.path / "notes.txt").write_text("mine")
    (folder.path / "weights.npz").write_text("mine")
    folder.delete()
    assert names(folder) == ["notes.txt", "weights.npz"]


def test_deleting_nothing_is_no_error(tmp_path):
    BackupFolder(tmp_path / "missing", keep=1).delete()


def test_the_file_can_be_read_without_tfdp(folder):
    with np.load(newest_path(folder)) as file:
        assert file["weight"].tolist() == [2, 2, 2]
        about, arrays = json.loads(file["about"].tobytes())
    assert (about, arrays) == ({"epoch": 2}, ["weight"])


def test_a_full_disk_leaves_the_backups_as_they_were(folder, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = names(folder)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left on device"):
            folder.save(3, backup(3))
    assert names(folder) == before
    folder.save(5, backup(5))
    assert folder.newest().about == {"epoch": 5}


def test_the_newest_is_known_without_reading_it(folder):
    newest_path(folder).write_bytes(b"")
    assert folder.newest_update() == 2
    assert BackupFolder(folder.path / "none", keep=1).newest_update() == -1


def test_a_folder_of_a_backups_name_is_passed_over(folder):
    (folder.path / "backup-0000000009.npz").mkdir()
    with pytest.warns(UserWarning, match="IsADirectoryError"):
        assert folder.newest().about == {"epoch": 2}
    folder.save(10, backup(10))
    assert folder.newest().about == {"epoch": 10}


ABOUT = {
    "epoch": 1,
    "batch": 0,
    "replicas": 2,
    "accumulation_steps": 1,
    "updates": 3,
    "position": [1, 0],
    "history": {"loss": [0.5]},
    "epochs": [0],
}


@pytest.mark.parametrize(
    "more", [{}, {"global_batch": None}, {"global_batch": 8}]
)
def test_what_a_training_has_written_is_right(more):
    check_contents(Backup({}, {**ABOUT, **more}))


@pytest.mark.parametrize(
    "wrong",
    [
        {"epoch": -1},
        {"batch": "2"},
        {"batch": -3},
        {"batch": 1.5},
        {"replicas": 0},
        {"accumulation_steps": True},
        {"updates": None},
        {"global_batch": 0},
        {"position": 3},
        {"position": [1]},
        {"position": [1, -1]},
        {"history": []},
        {"history": {"loss": 1}},
        {"epochs": {}},
        {"epochs": [-1]},
    ],
    ids=repr,
)
def test_a_backup_that_says_what_cannot_be_is_passed_over(tmp_path, wrong):
    folder = BackupFolder(tmp_path, keep=3)
    folder.save(1, Backup({}, ABOUT))
    folder.save(2, Backup({}, {**ABOUT, **wrong}))
    with pytest.warns(UserWarning, match=f"ValueError: `{next(iter(wrong))}`"):
        assert folder.newest(check_contents).about == ABOUT


@pytest.mark.parametrize("name", ABOUT)
def test_a_backup_that_lacks_something_is_passed_over(tmp_path, name):
    folder = BackupFolder(tmp_path, keep=3)
    folder.save(1, Backup({}, ABOUT))
    missing = {k: v for k, v in ABOUT.items() if k != name}
    folder.save(3, Backup({}, missing))
    with pytest.warns(UserWarning, match="ValueError"):
        assert folder.newest(check_contents).about == ABOUT


def test_a_backup_that_is_a_list_is_passed_over():
    with pytest.raises(ValueError, match="no mapping"):
        check_contents(Backup({}, [1]))
