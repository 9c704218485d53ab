"""Lines of JSON that outlive the program that writes them."""

import json
import math

import numpy as np
import pytest
import tensorflow as tf

from tfdp.run_log.event_file import EventFile
from tfdp.run_log.run_log import RunLog, numbers_in


def read(log):
    def refuse(token):
        raise AssertionError(f"{token} is no JSON")

    return [
        json.loads(line, parse_constant=refuse)
        for line in log.path.read_text().splitlines()
    ]


def test_rows_are_lines_in_their_order(tmp_path):
    log = RunLog(tmp_path / "runs" / "one")
    rows = [{"kind": "run", "update": 0}, {"kind": "end", "words": "good \n"}]
    for row in rows:
        log.append(row)
    assert log.path == tmp_path / "runs" / "one" / "run.jsonl"
    assert read(log) == rows


def test_a_row_is_in_the_file_at_once(tmp_path):
    log = RunLog(tmp_path)
    log.append({"kind": "run"})
    assert log.path.read_text() == '{"kind": "run"}\n'


def test_later_logs_append(tmp_path):
    for update in range(3):
        RunLog(tmp_path).append({"update": update})
    assert [row["update"] for row in read(RunLog(tmp_path))] == [0, 1, 2]


@pytest.mark.parametrize("half", ['{"kind": "upd', "{", '{"update": 2}', "é"])
def test_a_half_line_is_cut_before_anything_is_appended(tmp_path, half):
    log = RunLog(tmp_path)
    log.append({"update": 1})
    with log.path.open("ab") as file:
        file.write(half.encode()[:-1] or b"{")
    RunLog(tmp_path).append({"update": 3})
    assert [row["update"] for row in read(log)] == [1, 3]


def test_a_file_of_nothing_but_a_half_line_begins_anew(tmp_path):
    (tmp_path / "run.jsonl").write_text('{"kind": "r')
    assert RunLog(tmp_path).path.read_text() == ""


def test_what_is_no_finite_number_is_null(tmp_path):
    log = RunLog(tmp_path)
    bad = [math.nan, math.inf, -math.inf, np.float32("nan"), np.array(np.inf)]
    log.append({"loss": math.nan, "nested": {"all": bad}, "limit": None})
    assert read(log) == [
        {"loss": None, "nested": {"all": [None] * 5}, "limit": None}
    ]


def test_numbers_of_numpy_are_numbers(tmp_path):
    log = RunLog(tmp_path)
    row = {
        "a": np.int64(2),
        "b": np.float32(0.5),
        "c": (np.array(1.5), 3),
        "d": True,
    }
    log.append(row)
    assert read(log) == [{"a": 2, "b": 0.5, "c": [1.5, 3], "d": True}]
    assert type(read(log)[0]["a"]) is int


def test_of_logs_only_numbers_are_taken():
    found = numbers_in(
        {
            "loss": 0.5,
            "updates": 3,
            "float": np.float32(0.25),
            "int": np.int64(4),
            "scalar": tf.constant(2.0),
            "nan": math.nan,
            "array": np.ones(1),
            "matrix": [[1, 2], [3, 4]],
            "tensor": tf.ones((2, 2)),
            "string": "1.5",
            "none": None,
        }
    )
    assert math.isnan(found.pop("nan"))
    assert found == {
        "loss": 0.5,
        "updates": 3,
        "float": 0.25,
        "int": 4,
        "scalar": 2.0,
    }
    assert {type(value) for value in found.values()} == {int, float}
    assert numbers_in(None) == {}


def test_a_folder_that_is_a_file_is_refused(tmp_path):
    path = tmp_path / "file"
    path.write_text("mine")
    with pytest.raises(ValueError, match=r"must be a folder .* Give another"):
        RunLog(path)
    assert path.read_text() == "mine"


def test_a_file_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "run.jsonl").mkdir()
    with pytest.raises(ValueError, match=r"can be written to. Received: "):
        RunLog(tmp_path)


def test_integers_beyond_all_measure_are_null(tmp_path):
    log = RunLog(tmp_path)
    log.append({"kind": "epoch", "big": 10**400})
    assert json.loads(log.path.read_text())["big"] is None


def test_rows_without_room_are_left_out_and_told_of_once(tmp_path):
    log = RunLog(tmp_path)
    log.append({"update": 1})
    whole = log.path.read_text()
    log.path.unlink()
    log.path.mkdir()
    with pytest.warns(UserWarning, match=r"run.jsonl \(Is a directory\)"):
        log.append({"update": 2})
    log.append({"update": 3})
    log.path.rmdir()
    # What a full disk has left of a row.
    log.path.write_text(f'{whole}{{"update": ')
    log.append({"update": 4})
    log.append({"update": 5})
    assert [row["update"] for row in read(log)] == [1, 4, 5]


def test_events_without_room_are_left_out_and_told_of_once(
    tmp_path, monkeypatch
):
    file = EventFile(tmp_path)

    def full(*arguments):
        raise tf.errors.ResourceExhaustedError(None, None, "No space left.")

    with monkeypatch.context() as patch:
        patch.setattr(tf.summary, "write", full)
        with pytest.warns(UserWarning, match="Received: No space left."):
            file.write({"loss": 1.0}, step=1)
        file.write({"loss": 1.0}, step=2)
    file.write({"loss": 1.0}, step=3)
    file.close()
    (path,) = tmp_path.iterdir()
    events = list(tf.compat.v1.train.summary_iterator(str(path)))
    assert [event.step for event in events if event.summary.value] == [3]
