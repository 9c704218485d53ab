"""The chief's backup on workers that have none."""

import numpy as np
import pytest

import tfdp
from tfdp.backup import sharing
from tfdp.backup.backup_folder import Backup

random = np.random.default_rng(0)
ARRAYS = {
    "weights": random.normal(size=(3, 5)).astype("float32"),
    "special": np.array([np.nan, -0.0, np.inf]),
    "count": np.array(7),
    "nothing": np.zeros((0, 4), "float16"),
    "flags": np.array([True, False, True]),
    "text": np.array(["one", "three"]),
    "transposed": np.arange(6, dtype="uint8").reshape(2, 3).T,
    "large": np.arange(100, dtype="int64"),
}


def shared(bytes_at_once):
    sharing._BYTES_AT_ONCE = bytes_at_once
    strategy = tfdp.MultiWorkerMirroredStrategy()
    own = Backup(ARRAYS, {"epoch": 3}) if strategy.is_chief else None
    found = sharing.shared(strategy, own)
    return found.about, described(found.arrays)


def described(arrays):
    return {
        name: [a.dtype.str, list(a.shape), a.tobytes().hex(), a.flags.aligned]
        for name, a in arrays.items()
    }


@pytest.mark.multi_worker
@pytest.mark.parametrize("bytes_at_once", [1, 70, 2**24])
def test_all_workers_have_the_same_bits(bytes_at_once):
    for about, arrays in tfdp.testing.run_workers(shared, 2, [bytes_at_once]):
        assert about == {"epoch": 3}
        assert arrays == described(ARRAYS)


def test_arrays_travel_together_as_long_as_they_are_small():
    each = [(name, a.shape, a.dtype.str) for name, a in ARRAYS.items()]
    sizes = [len(pack) for pack in sharing._packs(each)]
    assert sizes == [8]
    assert list(sharing._packs([])) == []
