"""Which private name of Grain moved, of those that `grain_data` uses."""

import sys
import types

import keras
import numpy as np
import pytest
from keras.src.trainers.data_adapters import get_data_adapter

import tfdp
from tfdp.data import grain_data
from tfdp.upstream.keras import keras_epochs

grain = pytest.importorskip("grain")


def batches(**options):
    return grain.MapDataset.source(np.zeros((5, 2))).batch(2, **options)


def loader(*shard):
    return grain.DataLoader(
        data_source=range(6),
        sampler=grain.samplers.IndexSampler(6, num_epochs=1),
        shard_options=grain.sharding.ShardOptions(*shard),
    )


@pytest.mark.parametrize(
    "data",
    [batches(), batches().to_iter_dataset()],
    ids=["MapDataset", "IterDataset"],
)
def test_the_dataset_that_keras_was_given_is_found(data):
    epochs = types.SimpleNamespace(data_adapter=get_data_adapter(data))
    assert keras_epochs.grain_data(epochs) is data
    kinds = [type(part).__name__ for part in grain_data.through(data)]
    assert kinds[-1] == "SourceMapDataset"


def test_a_loader_says_which_shard_it_reads():
    assert grain_data.shard_of(loader(1, 3)) == (1, 3)


def test_a_dataset_says_whether_its_batches_drop_a_remainder():
    assert grain_data.drops_remainder(batches(drop_remainder=True))
    assert not grain_data.drops_remainder(batches())
    assert not grain_data.drops_remainder(grain.MapDataset.range(3))


def test_other_data_are_not_of_grain():
    arrays = get_data_adapter(np.zeros((2, 2)))
    epochs = types.SimpleNamespace(data_adapter=arrays)
    assert keras_epochs.grain_data(epochs) is None
    assert keras_epochs.grain_data(None) is None
    assert not grain_data.is_grain(keras, "MapDataset")


def test_where_grain_is_not_imported_nothing_is_of_it(monkeypatch):
    data = batches()
    assert grain_data.is_grain(data, "MapDataset", "IterDataset")
    monkeypatch.delitem(sys.modules, "grain")
    assert not grain_data.is_grain(data, "MapDataset", "IterDataset")
    assert "grain" not in sys.modules


def test_the_only_worker_reads_all():
    data = batches()
    assert tfdp.shard(data) is data
    options = tfdp.shard_options(drop_remainder=True)
    assert (options.shard_index, options.shard_count) == (0, 1)
    assert options.drop_remainder


def test_what_is_iterated_is_split_before():
    with pytest.raises(TypeError, match="split a grain.IterDataset before"):
        tfdp.shard(batches().to_iter_dataset())
