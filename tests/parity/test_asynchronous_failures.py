"""Of workers that do not wait one is killed: all of it is as it would be."""

import collections
import json
import time

import asynchronous_backup
import asynchronous_fit
import numpy as np
import pytest

import tfdp

pytestmark = pytest.mark.multi_worker

BATCHES = -(-asynchronous_fit.SAMPLES // asynchronous_fit.BATCH)


def run(folder, **kwargs):
    keywords = {"asynchronous": True, "log_dir": folder, **kwargs}
    kills = keywords.pop("kills", [])
    normalizes = keywords.pop("normalizes", False)
    return tfdp.testing.run_workers(
        asynchronous_backup.train,
        2,
        [str(folder), kills, normalizes],
        **keywords,
    )


def notes_of(folder, begun, ended):
    """What each update of a worker was of, in the order of its steps."""
    notes = collections.defaultdict(list)
    for file in sorted(folder.glob("[01]-*.jsonl")):
        if begun <= file.stat().st_mtime <= ended:
            rows = map(json.loads, file.read_text().splitlines())
            notes[int(file.name[0])] += rows
    return notes


@pytest.mark.parametrize(
    "place", [(1, 1), pytest.param((2, 2), marks=pytest.mark.long)], ids=str
)
def test_the_chief_is_lost_and_the_job_resumes(tmp_path, place):
    begun = time.time()
    with pytest.raises(RuntimeError, match="Worker 0 was killed by SIGKILL"):
        run(tmp_path, kills=[[0, *place]])
    ended = time.time()
    assert ended - float((tmp_path / "killed-0").read_text()) < 5
    (log,) = [json.loads(f.read_text()) for f in tmp_path.glob("log-*.json")]
    before = notes_of(tmp_path, begun, ended)

    results = run(tmp_path)
    said = (tmp_path / "worker-0.log").read_text()
    assert f"Resuming at epoch {place[0] + 1}, batch" in said
    after = notes_of(tmp_path, ended, time.time())
    first = results[0]["log"][0][3]
    log = [*log[:first], *results[0]["log"]]
    assert [row[3] for row in log] == list(range(len(log)))
    of_rows = [
        (before if place < first else after)[worker][step]
        for place, (worker, step, _, _) in enumerate(log)
    ]
    # Each batch is done once per epoch.
    assert sorted((epoch, *numbers) for epoch, numbers in of_rows) == [
        (epoch, number)
        for epoch in range(asynchronous_backup.EPOCHS)
        for number in range(BATCHES)
    ]
    rows = [
        [read, applied, *batches]
        for (_, _, read, applied), batches in zip(log, of_rows, strict=True)
    ]
    expected = asynchronous_fit.replayed(rows, "AdamW")
    for result in results:
        assert result["iterations"] == len(log)
        for weight, value in zip(result["weights"], expected, strict=True):
            np.testing.assert_array_equal(np.float32(weight), value)
    assert results[0]["epochs"] == results[1]["epochs"] == [0, 1, 2]
    assert results[0]["history"] == results[1]["history"]
    assert results[0]["patience"] == results[1]["patience"]


@pytest.mark.long
def test_a_worker_that_comes_back_goes_on_as_the_others(tmp_path):
    chief, other = run(
        tmp_path, kills=[[1, 1, 0]], normalizes=True, max_restarts=1
    )
    # Averages of batches, and what callbacks remember, are the chief's.
    assert other["weights"] == chief["weights"]
    assert other["epochs"] == chief["epochs"] == [0, 1, 2]
    assert other["history"] == chief["history"]
    assert other["patience"] == chief["patience"]
    assert chief["patience"][0] == 2
