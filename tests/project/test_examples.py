"""The example, started in every way that its first lines name."""

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest
from places import ROOT

EXAMPLES = ROOT / "examples"
SCRIPT = str(EXAMPLES / "digits.py")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


def run(*command, check=True):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment.pop("TF_CONFIG", None)
    result = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=600
    )
    if check:
        assert result.returncode == 0, result.stderr[-3000:]
    return result


def launched(workers):
    return (sys.executable, "-m", "tfdp.cli", "launch", f"--workers={workers}")


def value(output, label):
    """The value of a row of the closing table."""
    return re.search(rf"│ {re.escape(label)} +│ (.*?) +│", output)[1]


@pytest.mark.long
@pytest.mark.parametrize("cpus", [1, 2])
def test_alone_it_ends_with_a_table_and_a_plot(tmp_path, data_dir, cpus):
    output = run(
        *(sys.executable, SCRIPT, "--epochs=2", f"--logical-cpus={cpus}"),
        *("--accumulation=3", "--per-replica-batch=48"),
        *(f"--data-dir={data_dir}", f"--output={tmp_path}"),
    ).stdout
    assert value(output, "workers") == "1"
    assert value(output, "replicas") == f"{cpus}"
    assert value(output, "effective batch") == f"{144 * cpus} samples"
    # 1,437 images: 30 or 15 micro-batches, 10 or 5 updates per epoch.
    assert value(output, "updates") == f"{20 // cpus}"
    assert len(value(output, "samples/s per replica").split()) == cpus
    plot = pathlib.Path(re.search(r"plot: (.*)", output)[1])
    assert plot.parent == tmp_path
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert f"more: tfdp report {tmp_path}" in output
    lines = (tmp_path / "run.jsonl").read_text().splitlines()
    kinds = [json.loads(line)["kind"] for line in lines]
    assert kinds[0] == "run"
    assert kinds[-1] == "end"
    assert kinds.count("epoch") == kinds.count("window") == 2
    assert kinds.count("update") == 20 // cpus // 10


@pytest.mark.long
@pytest.mark.multi_worker
def test_two_workers_read_held_out_digits(tmp_path, data_dir):
    """The settings of `make demo`, and half of its epochs."""
    output = run(
        *launched(2),
        *(SCRIPT, "--accumulation=4", "--epochs=15"),
        *(f"--data-dir={data_dir}", f"--output={tmp_path}"),
    ).stdout
    assert value(output, "workers") == "2"
    assert value(output, "effective batch") == "256 samples"
    assert value(output, "updates") == "90"
    assert len(value(output, "samples/s per worker").split()) == 2
    accuracy, images = re.match(
        r"([\d.]+) \((\d+) images\)", value(output, "held-out accuracy")
    ).groups()
    assert float(accuracy) >= 0.95
    # Of images that were all looked at, the share is a whole number of them.
    read = float(accuracy) * int(images)
    assert abs(read - round(read)) <= 0.02
    assert "[worker 0] epoch  1/15" in output
    assert "[worker 1] epoch" not in output


@pytest.mark.long
@pytest.mark.multi_worker
def test_workers_that_prepare_the_data_at_once_do_not_race(tmp_path):
    code = (
        f"import sys; sys.path.insert(0, {str(EXAMPLES)!r})\n"
        "from digits_dataset import prepared\n"
        f"data = prepared('digits', {str(tmp_path / 'fresh')!r})\n"
        "sizes = {k: v.num_examples for k, v in data.info.splits.items()}\n"
        "print(sizes['train'], sizes['test'])\n"
    )
    script = tmp_path / "prepare.py"
    script.write_text(code)
    output = run(*launched(3), str(script)).stdout
    for worker in range(3):
        assert f"[worker {worker}] 1437 360" in output


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--epochs=0", "--epochs must be at least 1"),
        ("--accumulation=0", "`accumulation_steps` must be at least 1"),
        ("--logical-cpus=0", "`count` must be at least 1"),
    ],
)
def test_a_wrong_flag_is_explained_without_a_traceback(tmp_path, flag, message):
    result = run(
        *(sys.executable, SCRIPT, flag, f"--data-dir={tmp_path}"),
        f"--output={tmp_path}",
        check=False,
    )
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
