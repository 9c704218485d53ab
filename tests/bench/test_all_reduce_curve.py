import pytest
import tensorflow as tf
from tensorflow.python.distribute import cross_device_utils

from tfdp.bench.all_reduce_curve import (
    DEFAULT_PACK,
    MEBIBYTE,
    AllReduceCurve,
    bus_bandwidth,
    check_replicas,
    num_packs,
    size_text,
)

LARGE = 8 * MEBIBYTE


def curve(packs=None, **changes):
    settings = {
        "num_replicas": 2,
        "message_seconds": {4096: [1.0] * 4},
        "tensor_sizes": [3 * MEBIBYTE] * 8,
        "pack_seconds": packs or {},
    }
    return AllReduceCurve(**{**settings, **changes})


@pytest.mark.parametrize(
    ("replicas", "expected"), [(2, 500.0), (4, 750.0), (1000, 999.0)]
)
def test_bus_bandwidth_is_what_each_replica_sends(replicas, expected):
    assert bus_bandwidth(1000, 2.0, replicas) == pytest.approx(expected)


@pytest.mark.parametrize("pack", [1, 400, 401, 1000, 1996, 10**6])
@pytest.mark.parametrize(
    "sizes",
    [[400] * 5, [4, 4000, 4, 4, 2000, 4], [1996, 4, 4], [4]],
    ids=lambda sizes: "-".join(map(str, sizes)),
)
def test_packs_are_those_of_tensorflow(sizes, pack):
    tensors = [tf.zeros([size // 4]) for size in sizes]
    packs = cross_device_utils.group_by_size(tensors, pack)
    assert num_packs(sizes, pack) == len(packs)


def test_nothing_is_no_pack():
    assert num_packs([], 1) == 0


@pytest.mark.parametrize(
    ("default", "other", "recommended"),
    [
        ([1.0] * 4, [0.5] * 4, LARGE),
        ([1.0] * 4, [0.96] * 4, DEFAULT_PACK),
        ([1.0] * 4, [0.94] * 4, LARGE),
        ([1.0] * 4, [2.0] * 4, DEFAULT_PACK),
        # A machine that slows down slows both.
        ([1.0, 2.0, 4.0, 8.0], [0.9, 1.8, 3.6, 7.2], LARGE),
        ([1.0, 1.0, 1.0, 1.0], [0.5, 0.5, 0.5, 2.0], LARGE),
        ([1.0, 1.0, 1.0, 1.0], [0.5, 0.5, 2.0, 2.0], DEFAULT_PACK),
    ],
)
def test_what_beats_the_noise_is_recommended(default, other, recommended):
    found = curve({DEFAULT_PACK: default, LARGE: other})
    assert found.recommended_pack == recommended
    advice = str(found).splitlines()[-1]
    if recommended == DEFAULT_PACK:
        assert advice.startswith("Keep the default of 2 MiB")
    else:
        assert advice == "  TFDP_PACK_MIB=8 tfdp launch ..."


def test_the_fastest_of_several_is_recommended():
    packs = {DEFAULT_PACK: [3.0], LARGE: [2.0], 2 * LARGE: [1.0]}
    found = curve(packs, message_seconds={4096: [1.0]})
    assert found.recommended_pack == 2 * LARGE
    assert found.speedups == {DEFAULT_PACK: 1.0, LARGE: 1.5, 2 * LARGE: 3.0}


def test_one_pack_is_set_by_its_size():
    total = 8 * 3 * MEBIBYTE - 1
    sizes = [3 * MEBIBYTE] * 7 + [3 * MEBIBYTE - 1]
    packs = {DEFAULT_PACK: [1.0] * 4, total: [0.5] * 4}
    lines = str(curve(packs, tensor_sizes=sizes)).splitlines()
    assert lines[-4].split()[:3] == ["one", "pack", "1"]
    assert "one pack, 2.00 times as fast as the default of 2 MiB:" in lines[-2]
    assert lines[-1] == "  TFDP_PACK_MIB=24 tfdp launch ..."


def test_a_table_shows_medians():
    found = curve(message_seconds={MEBIBYTE: [0.5, 9.0, 0.1]})
    row = " ".join(str(found).splitlines()[-1].split())
    assert row == "1 MiB 500.00 ms 2.1 MB/s 2.1 MB/s"
    assert "medians of 3 rounds" in str(found)


def test_without_packs_there_is_no_advice():
    assert "pack" not in str(curve())
    assert curve().recommended_pack == DEFAULT_PACK


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (512, "0.5 KiB"),
        (4096, "4 KiB"),
        (256 * 1024, "256 KiB"),
        (MEBIBYTE, "1 MiB"),
        (9 * 2**18, "2.25 MiB"),
        (64 * MEBIBYTE, "64 MiB"),
    ],
)
def test_sizes_are_in_powers_of_two(size, text):
    assert size_text(size) == text


@pytest.mark.parametrize("replicas", [0, 1])
def test_one_replica_has_nothing_to_reduce(replicas):
    with pytest.raises(ValueError, match="at least 2 replicas. Received"):
        check_replicas(replicas)
    with pytest.raises(ValueError, match=f"num_replicas={replicas}"):
        curve(num_replicas=replicas)


@pytest.mark.parametrize(
    "messages", [{1: [1.0], 2: []}, {1: []}, {}, {1: [1.0], 2: [1.0, 2.0]}]
)
def test_rounds_are_whole(messages):
    with pytest.raises(ValueError, match="in every round"):
        curve(message_seconds=messages)


def test_packs_are_compared_with_the_default():
    with pytest.raises(ValueError, match=f"Measure {DEFAULT_PACK} too"):
        curve({LARGE: [1.0] * 4})
