"""Batches are taken apart whatever they are made of."""

import pytest
import tensorflow as tf

from tfdp.data import Share, by_replica, by_rows

SHARE = Share(worker_index=0, num_workers=2, replicas=2)


def parts_of_nothing(x):
    return x, -x, None


def parts_of_all(x):
    return x, -x, 2.0


def parts_of_dict(x):
    return {"a": x, "b": None, "c": (tf.constant(3.0), -x)}


@pytest.mark.parametrize(
    ("parts", "others"),
    [(parts_of_nothing, [None]), (parts_of_all, [2.0]), (parts_of_dict, [3.0])],
)
@pytest.mark.parametrize("is_by_rows", [False, True])
def test_what_has_no_rows_goes_to_every_replica(parts, others, is_by_rows):
    samples = tf.range(9.0)[:, tf.newaxis]
    batches = tf.data.Dataset.from_tensor_slices(samples).batch(4).map(parts)
    if is_by_rows:
        split = by_rows(batches, SHARE, None)
    else:
        split = by_replica(batches, 4, SHARE, tf.data.UNKNOWN_CARDINALITY)
    assert (
        tf.nest.assert_same_structure(
            split.dataset.element_spec, batches.element_spec
        )
        is None
    )
    seen = []
    for element in split.dataset:
        leaves = tf.nest.flatten(element)
        with_rows = [x for x in leaves if x is not None and x.shape.rank]
        without = [x for x in leaves if x is None or not x.shape.rank]
        assert len(with_rows) == 2
        assert set(others) <= {x if x is None else float(x) for x in without}
        seen += with_rows[0][:, 0].numpy().tolist()
        assert (with_rows[0] == -with_rows[1]).numpy().all()
    assert seen == list(range(9))


def test_steps_without_samples_have_no_rows_of_what_has_some():
    batches = tf.data.Dataset.from_tensor_slices(tf.zeros((3, 2))).batch(4)
    split = by_replica(batches.map(parts_of_nothing), 4, SHARE, 4)
    sizes = [len(x) for x, _, nothing in split.dataset if nothing is None]
    assert sizes == [1, 1, 1, 0, 0, 0, 0, 0]
    assert split.steps == 4
