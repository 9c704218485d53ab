"""Who owns which slot, and how what an owner has changed reaches the others."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from sharded_state import OPTIMIZERS

import tfdp
from tfdp.synchronization.shards import (
    NotInCheckpoints,
    share_over_workers,
    share_parts,
)
from tfdp.synchronization.shards.ownership import balanced, planned_slots

SHAPES = [(3, 4), (4,), (4, 2, 5), (2,), (2, 2)]


def variables():
    return [
        keras.Variable(np.ones(shape, "float32"), name=f"v{i}")
        for i, shape in enumerate(SHAPES)
    ]


def slots_of(make, variables):
    optimizer = make()
    before = len(optimizer.variables)
    optimizer.build(variables)
    return optimizer.variables[before:]


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_slots_are_planned_as_keras_makes_them(kind):
    plans = planned_slots(OPTIMIZERS[kind](), variables())
    made = slots_of(OPTIMIZERS[kind], variables())
    assert [plan.shape for plan in plans] == [tuple(v.shape) for v in made]
    assert [plan.bytes for plan in plans] == [v.numpy().nbytes for v in made]
    # Alone, each variable gets its own, and what belongs to none.
    common = [plan for plan in plans if plan.place is None]
    assert len(common) == (kind == "Nadam")
    for place, variable in enumerate(variables()):
        alone = slots_of(OPTIMIZERS[kind], [variable])
        own = [plan.shape for plan in plans if plan.place in (place, None)]
        assert own == [tuple(slot.shape) for slot in alone]


class ByPlace(keras.optimizers.SGD):
    """Makes slots in an order of its own, without looking at all in turn."""

    def build(self, variables):
        super().build(variables)
        self.slots = [
            self.add_variable_from_reference(variables[place], "slot")
            for place in reversed(range(len(variables)))
        ]


class OfOtherShape(keras.optimizers.SGD):
    """Makes slots that are not like their variables."""

    def build(self, variables):
        super().build(variables)
        self.slots = []
        for variable in variables:
            size = variable.shape[-1]
            self.slots.append(self.add_variable((size, size), name="square"))


def test_a_slot_belongs_to_what_it_was_made_from():
    plans = planned_slots(ByPlace(0.1), variables())
    assert [plan.place for plan in plans] == [4, 3, 2, 1, 0]


def test_a_slot_belongs_to_what_was_looked_at_when_it_was_made():
    plans = planned_slots(OfOtherShape(0.1), variables())
    assert [plan.place for plan in plans] == [0, 1, 2, 3, 4]
    assert [plan.bytes for plan in plans] == [64, 64, 100, 16, 16]


def test_planning_builds_nothing(two_replicas):
    optimizer = keras.optimizers.Adam()
    with two_replicas.scope():
        planned_slots(optimizer, variables())
    assert not optimizer.built
    assert len(optimizer.variables) == 2


def test_the_largest_is_shared_out_first():
    sizes = [(8, 4), (80, 40), (40, 20), (24, 12), (16, 8)]
    assert balanced(sizes, 2) == [0, 0, 1, 1, 1]
    # By what is updated, where nothing is kept.
    assert balanced([(0, 4), (0, 40), (0, 20), (0, 18)], 2) == [1, 0, 1, 1]
    assert balanced([(8, 4)], 3) == [0]


@pytest.mark.parametrize("over_workers", [False, True])
def test_what_an_owner_has_reaches_everybody(strategy, over_workers):
    types = ["float32", "float64", "float32", "float32", "float64"]
    with strategy.scope():
        made = [
            tf.Variable(tf.zeros(shape, dtype))
            for shape, dtype in zip(SHAPES, types, strict=True)
        ]
    parts = {
        place: strategy.experimental_local_results(variable)
        for place, variable in enumerate(made)
    }
    owners = {p: p % strategy.num_replicas_in_sync for p in parts}
    for place, of_replicas in parts.items():
        for replica, part in enumerate(of_replicas):
            begin = 100 * place + 10_000 * (replica != owners[place])
            number = tf.range(begin, begin + tf.size(part))
            part.assign(tf.cast(tf.reshape(number, part.shape), part.dtype))
    expected = [parts[p][owner].numpy() for p, owner in owners.items()]

    @tf.function
    def share():
        if over_workers:
            # Whose replicas are all here.
            share_over_workers(strategy, parts, owners, 0)
        else:
            share_parts(parts, owners)

    with strategy.scope():
        share()
    for place, of_replicas in parts.items():
        for part in of_replicas:
            np.testing.assert_array_equal(part.numpy(), expected[place])


def test_checkpoints_refuse_what_one_worker_has_a_part_of(tmp_path):
    checkpoint = tf.train.Checkpoint(slots=NotInCheckpoints())
    with pytest.raises(RuntimeError, match="holds what one worker has"):
        checkpoint.save(tmp_path / "state")


def test_the_bytes_of_a_shared_out_state_are_told_before(two_replicas):
    with two_replicas.scope():
        optimizer = tfdp.DistributedOptimizer(
            keras.optimizers.Adam(), synchronization=tfdp.ShardedState()
        )
    assert optimizer.state_bytes() == [0, 0]
    assert optimizer.owned_variables == []
    assert optimizer.gather_state() == []
