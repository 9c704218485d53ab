"""Files of what workers print, on a disk that is full."""

import os

import pytest

from tfdp.launching.worker_output import WorkerOutput


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_lines_without_room_are_told_of_once_and_heard(tmp_path, capsys):
    (tmp_path / "worker-0.log").symlink_to("/dev/full")
    heard = []
    output = WorkerOutput(
        [0, 1], on_line=lambda *line: heard.append(line), log_dir=tmp_path
    )
    for worker in (0, 1, 0):
        output.hear(worker, "hello")
    output.close()
    assert heard == [(0, "hello"), (1, "hello"), (0, "hello")]
    assert output.error is None
    told = capsys.readouterr().err
    assert told.count("worker-0.log cannot be written (No space left") == 1
    assert (tmp_path / "worker-1.log").read_text().splitlines()[1:] == ["hello"]


def test_what_tensorflow_prints_at_its_start_is_no_last_line(tmp_path):
    output = WorkerOutput([0], log_dir=tmp_path)
    noise = (
        "I0000 00:00:1795943291.720746   18680 cudart_stub.cc:31] Could not "
        "find cuda drivers on your machine, GPU will not be used."
    )
    for line in (noise, "out of data"):
        output.hear(0, line)
    output.close()
    assert list(output.last_lines[0]) == ["out of data"]
    assert noise in (tmp_path / "worker-0.log").read_text()
