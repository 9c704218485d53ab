"""Random numbers that differ between replicas, and come from one seed."""

import contextlib
from typing import Any

import keras
import tensorflow as tf

from tfdp.upstream.keras import keras_models


@keras.saving.register_keras_serializable(package="tfdp")
class ReplicaSeedGenerator(keras.random.SeedGenerator):
    """A `keras.random.SeedGenerator` that no two replicas agree with.

    Its state is the same on all replicas and workers, so that it is saved and
    restored as Keras does; the number of the replica is folded into each seed
    that is drawn. Replica 0 draws what one device would.
    """

    def next(self, ordered: bool = True) -> tf.Tensor:
        """Returns the next seed of this replica.

        Args:
            ordered: As in Keras. Defaults to `True`.

        Returns:
            Seed for a stateless random operation, of shape `[2]`.
        """
        seed = super().next(ordered)
        context = tf.distribute.get_replica_context()
        if context is None or context.num_replicas_in_sync == 1:
            return seed
        replica = tf.cast(context.replica_id_in_sync_group, tf.int64)
        folded = tf.random.experimental.stateless_fold_in(
            tf.cast(seed, tf.int64), replica
        )
        return tf.where(tf.equal(replica, 0), seed, tf.cast(folded, seed.dtype))


def seeded_per_replica() -> contextlib.AbstractContextManager[None]:
    """Makes the seed generators created in its context differ by replica."""

    def creator(next_creator: Any, **arguments: Any) -> tf.Variable:
        generator = keras_models.seed_generator_under_construction()
        if type(generator) is keras.random.SeedGenerator:
            generator.__class__ = ReplicaSeedGenerator
        return next_creator(**arguments)

    return tf.variable_creator_scope(creator)
