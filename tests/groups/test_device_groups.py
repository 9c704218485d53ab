"""Which devices are a replica, and what is said of those that cannot be."""

import keras
import pytest
import tensorflow as tf
from staged import GROUPS

import tfdp
from tfdp.groups import device_groups, in_groups, of_workers
from tfdp.optimizer.accumulation import Accumulator

_CPU = "/job:localhost/replica:0/task:0/device:CPU:"


def test_there_are_as_many_replicas_as_groups():
    strategy = tfdp.MirroredStrategy(groups=GROUPS)
    assert strategy.num_replicas_in_sync == 2
    assert strategy.groups == (
        (f"{_CPU}0", f"{_CPU}1"),
        (f"{_CPU}2", f"{_CPU}3"),
    )
    assert strategy.extended.worker_devices == (f"{_CPU}0", f"{_CPU}2")
    assert tfdp.MirroredStrategy(["CPU:0"]).groups is None


def test_devices_go_by_any_of_their_names():
    first, second = tf.config.list_logical_devices("CPU")[:2]
    strategy = tfdp.MirroredStrategy(
        groups=((first.name, "cpu:3"), [second, f"{_CPU}2"])
    )
    assert strategy.groups == (
        (f"{_CPU}0", f"{_CPU}3"),
        (f"{_CPU}1", f"{_CPU}2"),
    )


@pytest.mark.parametrize(
    ("groups", "error", "message"),
    [
        ("CPU:0", TypeError, "a list with a list of devices for each"),
        (["CPU:0", "CPU:1"], TypeError, "Received: 'CPU:0' in groups"),
        ([["CPU:0", 1]], ValueError, "Received: 1 in groups"),
        ([["CPU:0", "1"]], ValueError, "Received: '1' in groups"),
        ([["CPU:0", "Sofa:1"]], ValueError, "'GPU:0'. Received: 'Sofa:1'"),
        ([], ValueError, "Received: groups=[]"),
        ([[], []], ValueError, "a device at least"),
        ([["CPU:0", "CPU:1"], ["CPU:2"]], ValueError, "groups of 2, 1 devices"),
        (
            [["CPU:0", "CPU:1"], ["CPU:2", "CPU:0"]],
            ValueError,
            "Received: CPU:0 more than once",
        ),
        ([["CPU:0", "CPU:9"]], ValueError, "Received: CPU:9, where there are"),
    ],
)
def test_groups_that_cannot_be_are_refused(groups, error, message):
    with pytest.raises(error) as raised:
        tfdp.MirroredStrategy(groups=groups)
    assert message in str(raised.value)


def test_groups_of_different_kinds_are_refused(monkeypatch):
    monkeypatch.setattr(
        device_groups,
        "_logical_devices",
        lambda: ["CPU:0", "CPU:1", "GPU:0", "GPU:1"],
    )
    mixed = [["GPU:0", "CPU:0"], ["GPU:1", "CPU:1"]]
    assert device_groups.checked_groups(mixed) == mixed
    with pytest.raises(ValueError, match="GPU:0, CPU:0, of kinds CPU, GPU"):
        device_groups.checked_groups([["GPU:0", "CPU:1"], ["CPU:0", "GPU:1"]])


def test_devices_and_groups_are_refused():
    with pytest.raises(ValueError, match="Leave one of them out"):
        tfdp.MirroredStrategy(["CPU:0"], groups=GROUPS)


def test_neighbours_are_a_group():
    devices = ["CPU:0", "CPU:1", "CPU:2", "CPU:3"]
    assert in_groups(devices, 2) == GROUPS
    for size, error, message in [
        (3, ValueError, "devices_per_replica=3 for 4 devices"),
        (0, ValueError, "must be at least 1"),
        (1.5, TypeError, "must be an integer"),
    ]:
        with pytest.raises(error, match=message):
            in_groups(devices, size)


def test_the_strategy_that_fits_has_groups_too():
    strategy = tfdp.auto_strategy(devices_per_replica=2)
    assert strategy.num_replicas_in_sync == 2
    assert [len(group) for group in strategy.groups] == [2, 2]
    with pytest.raises(ValueError, match="must divide the devices"):
        tfdp.auto_strategy(devices_per_replica=3)


def test_a_worker_has_as_many_replicas_as_its_gpus_make_up(monkeypatch):
    counts = {"GPU": 4, "CPU": 2}
    monkeypatch.setattr(device_groups, "count_of", counts.get)
    # TensorFlow has its replicas on the first GPUs.
    assert of_workers(2) == (2, [["GPU:0", "GPU:2"], ["GPU:1", "GPU:3"]])
    assert of_workers(1) == (4, [[f"GPU:{i}"] for i in range(4)])
    with pytest.raises(ValueError, match="3 for 4 GPUs of this worker"):
        of_workers(3)
    counts["GPU"] = 0
    assert of_workers(2) == (0, [["CPU:0", "CPU:1"]])
    with pytest.raises(ValueError, match="logical_cpus\\(3\\)"):
        of_workers(3)


def test_a_worker_alone_has_groups_too():
    strategy = tfdp.MultiWorkerMirroredStrategy(devices_per_replica=2)
    assert strategy.num_replicas_in_sync == 1
    assert [name[-5:] for name in strategy.groups[0]] == ["CPU:0", "CPU:1"]
    with pytest.raises(TypeError, match="devices_per_replica"):
        tfdp.MultiWorkerMirroredStrategy(devices_per_replica="2")


def test_sums_of_gradients_are_beside_their_variables():
    strategy = tfdp.MirroredStrategy(groups=GROUPS)
    with strategy.scope():
        stage = tfdp.Stage([keras.layers.Dense(2)], 1)
        stage.build((None, 3))
        sums = Accumulator(stage.variables).variables
    copies = strategy.experimental_local_results(sums[0])
    assert [copy.device[-5:] for copy in copies] == ["CPU:1", "CPU:3"]
