"""The benchmarks run, and print the tables that their page shows."""

import os
import re
import subprocess
import sys

import pytest
from places import ROOT

BENCHMARKS = ROOT / "benchmarks"
SCRIPTS = [
    str(path.relative_to(BENCHMARKS))
    for path in sorted(BENCHMARKS.rglob("*.py"))
    if "argparse.ArgumentParser" in path.read_text()
]


def run(script, *arguments):
    result = subprocess.run(
        [sys.executable, BENCHMARKS / script, *arguments],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


def rows(output):
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in output.splitlines()
        if line.startswith("|") and "---" not in line
    ]


@pytest.mark.sampled
@pytest.mark.parametrize("script", SCRIPTS)
def test_every_benchmark_says_how_it_is_used(script):
    assert "usage: " in run(script, "--help")


@pytest.mark.long
def test_large_batches_are_measured_once(tmp_path):
    arguments = (
        "--quick",
        *("--task", "digits", "--rules", "none", "AdaScale"),
        *("--output", str(tmp_path)),
    )
    output = run("large_batch/study.py", *arguments)
    accuracy = {row[0]: row[1:] for row in rows(output)[:4]}
    assert accuracy["held-out accuracy at batch"] == ["16", "256"]
    assert re.fullmatch(r"[\d.]+%", accuracy["base"][0])
    assert re.fullmatch(r"[\d.]+%", accuracy["AdaScale"][1])
    (plot,) = tmp_path.glob("*.png")
    assert plot.read_bytes().startswith(b"\x89PNG")
    lines = (tmp_path / "runs.jsonl").read_text().splitlines()
    assert len(lines) == 3
    assert run("large_batch/study.py", *arguments) == output
    assert (tmp_path / "runs.jsonl").read_text().splitlines() == lines


@pytest.mark.long
def test_what_the_monitor_costs_is_measured():
    output = run("monitor_overhead.py", "--quick")
    table = rows(output)[1:]
    assert [row[:2] for row in table] == [
        [replicas, name]
        for replicas in ("1", "2")
        for name in ("without", "monitor", "and listener")
    ]
    for row in table:
        assert float(row[2].removesuffix(" µs").replace(",", "")) > 100
        assert (" µs (" in row[3]) == (row[1] != "without")


@pytest.mark.long
def test_what_random_layers_by_sample_cost_is_measured():
    table = rows(run("random_layers.py", "--quick"))[1:]
    assert [row[:2] for row in table] == [
        [network, place]
        for network in ("dense", "convolutional")
        for place in ("1 replica", "2 replicas", "2 workers")
    ]
    for row in table:
        _, by_replica, by_sample = (
            float(cell.removesuffix(" ms")) for cell in row[2:5]
        )
        assert float(row[5]) == pytest.approx(by_sample / by_replica, abs=0.02)


@pytest.mark.long
def test_what_compiled_replicas_gain_is_measured():
    table = rows(run("compiled.py", "--quick", "--networks", "dense"))[1:]
    # The program stops where losses differ.
    assert [row[:2] for row in table] == [["dense", "1"], ["dense", "2"]]
    for row in table:
        plain, compiled, ratio = map(float, row[2:5])
        assert ratio == pytest.approx(plain / compiled, rel=0.05)
        assert float(row[6]) > 0


@pytest.mark.long
def test_replicas_in_one_process_train_alike():
    output = run(
        "one_process.py",
        *("--quick", "--models", "tiny", "--rounds", "1", "--steps", "8"),
        *("--skip", "tf_keras", "tfdp, accumulation 8"),
    )
    table = rows(output)[1:]
    # The program stops where losses differ.
    assert [row[:3] for row in table] == [
        ["2", "tiny", contestant]
        for contestant in ("plain Keras", "tfdp", "one device")
    ]
    assert table[0][4] == "1.00"
    assert all(float(row[3]) > 0 and float(row[4]) > 0 for row in table)


def test_losses_that_differ_are_told():
    program = """
import sys
sys.path.insert(0, sys.argv[1])
from one_process import check_losses
one, other = [{"loss": 1.0}] * 2, [{"loss": 1.0}, {"loss": 1.01}]
check_losses({"one device": one, "tfdp, accumulation 8": other}, "tiny")
check_losses({"one device": one, "tfdp": other}, "tiny")
"""
    result = subprocess.run(
        [sys.executable, "-c", program, BENCHMARKS],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    assert "tfdp (tiny) must lose what one device does" in result.stderr
    assert "1.01 instead of 1.0 in round 2" in result.stderr


@pytest.mark.long
def test_accumulators_are_as_large_as_the_gradients():
    output = run(
        "accumulation.py",
        *("--quick", "--steps", "1", "4", "--rounds", "1"),
        *("--widths", "64", "1024", "10"),
    )
    table = rows(output)[1:]
    assert [row[0] for row in table] == ["gradients only", "1", "4"]
    size = f"{4 * (64 * 1024 + 1024 + 1024 * 10 + 10) / 1e6:.1f}"
    assert [row[5] for row in table] == ["0.0", "0.0", size]
    assert {row[6] for row in table} == {size}


@pytest.mark.long
def test_updates_are_measured_as_they_grow():
    output = run("update_time.py", "--quick", "--rounds", "1")
    table = rows(output)
    assert [row[:2] for row in table[1:7]] == [
        *([f"{n}00,000", "10"] for n in (1, 3)),
        *([f"{n},000,000", "10"] for n in (1, 3, 1)),
        ["1,000,000", "100"],
    ]
    assert table[7][2:4] == ["ms for 10", "ms for 100"]
    names = "tfdp, two replicas", "Keras, one device"
    assert [row[:2] for row in table[8:]] == [
        [name, kind] for name in names for kind in ("SGD", "Adam")
    ]
    assert re.search(r"to the power of -?\d\.\d\d", output)


@pytest.mark.long
def test_a_shared_out_state_is_measured_beside_a_whole_one():
    whole, *shared = rows(run("sharded_state.py", "--quick", "--rounds", "1"))[
        1:
    ]
    assert [row[0] for row in shared] == [
        "`ShardedState()`",
        "`ShardedState(gradients=True)`",
    ]
    # Two numbers of 4 bytes for each of a million parameters.
    assert (whole[2], whole[3]) == ("1.00", "8.0, 8.0")
    assert [row[3] for row in shared] == ["4.0, 4.0"] * 2


@pytest.mark.long
def test_what_an_import_takes_is_measured():
    table = rows(run("import_time.py", "--rounds", "1"))[1:]
    assert [row[0] for row in table] == [
        "tfdp",
        "tensorflow, keras",
        "names of tfdp, after them",
    ]
    assert all(float(row[1].replace(",", "")) > 1 for row in table)


@pytest.mark.long
@pytest.mark.multi_worker
def test_gradients_travel_once_per_update():
    output = run("collectives.py", "--quick")
    head, *table = rows(output)
    each, accumulated = (dict(zip(head, row, strict=True)) for row in table)
    assert (each["updates"], accumulated["updates"]) == ("8", "1")
    # A small model's gradients fit in one pack.
    for row in (each, accumulated):
        assert row["gradients"] == row["updates"]
        # One sum per micro-step is all that is beside them.
        assert (row["input"], row["messages"], row["votes"]) == ("0", "8", "0")
    assert re.search(r"A sum of one number: [\d,]+ µs", output)


@pytest.mark.long
@pytest.mark.multi_worker
def test_workers_that_meet_once_in_a_step_lose_as_much_as_others():
    """Which the program itself compares, or ends."""
    _, *table = rows(run("between_steps.py", "--quick"))
    assert [row[:2] for row in table] == [["tiny", "1"], ["tiny", "8"]]
    assert all(float(row[4]) > 0 for row in table)


@pytest.mark.long
def test_two_workers_do_the_same_work():
    output = run(
        "two_workers.py",
        *("--quick", "--rounds", "1", "--only", "tfdp", "tfdp, bfloat16"),
    )
    table = rows(output)[1:]
    assert [row[:2] for row in table] == [
        ["dense", "tfdp"],
        ["dense", "tfdp, bfloat16"],
    ]
    assert table[0][4] == "1.00"
    assert all(float(row[2]) > 1 for row in table)


@pytest.mark.long
def test_reading_is_measured_with_the_mark_and_without():
    output = run(
        "input.py",
        *("--quick", "--rounds", "1", "--decodes", "sleeps"),
        *("--workers", "1", "2", "--only", "tfdp", "tfdp, not marked"),
    )
    table = rows(output)[1:]
    assert [row[:3] for row in table] == [
        ["sleeps", "tfdp", "1"],
        ["sleeps", "tfdp", "2"],
        ["sleeps", "tfdp, not marked", "2"],
    ]
    alone, marked, unmarked = (float(row[5]) for row in table)
    assert alone == 1
    assert unmarked < 1.3 < marked
    assert all(float(row[4].removesuffix("%")) <= 105 for row in table)


@pytest.mark.long
@pytest.mark.parametrize(
    ("script", "first"),
    [
        ("compression.py", ["float32", "bfloat16", "float16"]),
        ("update_profile.py", ["1", "8", "1, bfloat16"]),
        ("input_arrays.py", 3 * ["34 MB, split", "34 MB, read by all"]),
    ],
)
def test_others_print_their_tables(script, first):
    assert [row[0] for row in rows(run(script, "--quick"))[1:]] == first


@pytest.mark.long
def test_ways_to_synchronise_are_timed_and_counted():
    output = run(
        "synchronization.py",
        *("--rounds", "1", "--only", "tfdp", "tfdp, LocalSGD(16)"),
        "tfdp, ShardedState",
    )
    together, apart, shared = rows(output)[1:]
    assert [row[0] for row in (together, apart, shared)] == [
        "tfdp",
        "tfdp, LocalSGD(16)",
        "tfdp, ShardedState",
    ]
    assert together[3] == "1.00"
    # A sixteenth, and what else passes meanwhile.
    assert 0 < float(apart[2]) < float(together[2]) / 2
    # Of two workers each owns a part of the momenta.
    whole = float(together[4].partition(",")[0])
    assert together[4] == f"{whole}, {whole}"
    assert sum(map(float, shared[4].split(","))) == pytest.approx(whole, abs=1)


@pytest.mark.long
@pytest.mark.multi_worker
def test_a_slow_worker_holds_an_asynchronous_one_up_less():
    output = run("asynchronous.py", "slow", "--quick")
    together, turns, apart = rows(output)[1:]
    assert [row[0] for row in (together, turns, apart)] == [
        "synchronous",
        "bound 0",
        "bound 4",
    ]
    assert together[2] == "1.00"
    assert float(turns[2]) < 1.1 < float(apart[2])


@pytest.mark.long
@pytest.mark.multi_worker
def test_what_killed_workers_have_done_is_made_again_on_one_device():
    found = dict(rows(run("asynchronous.py", "killed", "--minutes", "0.5")))
    assert int(found["kills"]) > 0
    assert found["largest staleness"].endswith("of at most 4")
    name = "difference from the updates made again on one device"
    assert found[name] == "0.0"


@pytest.mark.long
@pytest.mark.multi_worker
def test_the_price_of_staleness_is_that_of_workers_in_real_time():
    _, alone, together, turns, apart, true, *_ = rows(
        run("asynchronous.py", "price", "--quick")
    )
    assert (alone[0], together[1]) == ("one device", "synchronous")
    # Taking turns is one device, in virtual time also in its order.
    assert (turns[1:3], turns[4:6]) == (["0", "0.00, 0"], alone[4:6])
    assert apart[1] == true[1] == "4"
    assert apart[2].endswith(", 3")
    assert float(true[2].partition(",")[0]) > 0.4


@pytest.mark.long
def test_an_exchange_is_measured():
    plain, served = rows(run("asynchronous.py", "exchange", "--quick"))[1:]
    assert (plain[1], served[1]) == ("MirroredStrategy", "AsynchronousStrategy")
    # Gradients to the server, and weights back.
    assert float(plain[4]) < 1 < float(served[4])


@pytest.mark.long
def test_the_price_of_local_updates_is_measured_once(tmp_path):
    arguments = ("--quick", "--task", "digits", "--output", str(tmp_path))
    output = run("local_updates.py", *arguments)
    table = rows(output)[1:]
    assert [row[:2] for row in table] == [
        ["synchronous", ""],
        ["LocalSGD", "4"],
        ["DiLoCo", "4"],
    ]
    assert all(re.match(r"[\d.]+% ", row[2]) for row in table)
    assert run("local_updates.py", *arguments) == output


@pytest.mark.long
@pytest.mark.multi_worker
def test_the_parts_of_a_start_add_up():
    names = "tfdp", "Keras, one process"
    output = run("start_up.py", "--quick", "--only", *names)
    head, *table = rows(output)
    assert head[3:5] == ["starting", "importing"]
    assert [row[1:3] for row in table] == [
        [name, kind] for name in names for kind in ("seconds", "CPU seconds")
    ]
    for row in table[::2]:
        *parts, whole = map(float, row[3:])
        assert sum(parts) == pytest.approx(whole, abs=0.05)


@pytest.mark.long
@pytest.mark.multi_worker
def test_the_time_to_the_next_update_is_measured_and_told():
    output = run("quick_return.py", "--quick", "--only", "tfdp")
    head, measured, names, parts = rows(output)
    assert head[2] == "s to the next update"
    assert measured[:2] == parts[:2] == ["convolutional", "tfdp"]
    seconds = float(measured[2].partition(" ")[0])
    assert names[2:5] == ["whole", "noticing", "ending"]
    whole, *spent = map(float, parts[2:])
    assert sum(spent) == pytest.approx(whole, abs=0.1)
    # Of the later of two kills, where the first is their median.
    assert 0.5 * seconds < whole < 2 * seconds
