"""What workers must agree on about samples of their own."""

import dataclasses

import pytest

from tfdp.agreement import items
from tfdp.agreement.items import check_own_files


@dataclasses.dataclass
class Worker:
    num_workers: int = 2
    worker_index: int = 0


def check_files(monkeypatch, *by_worker):
    monkeypatch.setattr(items, "gather_objects", lambda *_: list(by_worker))
    check_own_files(Worker(), by_worker[0])


def test_one_cache_file_of_several_workers_is_refused(monkeypatch):
    with pytest.raises(ValueError, match="files of its own") as caught:
        check_files(monkeypatch, ["mine", "cache"], ["cache"])
    assert "Received: `cache('cache')` on several workers" in str(caught.value)
    assert "-{strategy.worker_index}-of-" in str(caught.value)


def test_cache_files_of_their_own_are_taken(monkeypatch):
    check_files(monkeypatch, ["0-of-2"], ["1-of-2"])
    check_files(monkeypatch, [], [])
    # Twice on one worker: TensorFlow itself tells of that.
    check_files(monkeypatch, ["a", "a"], ["b"])
