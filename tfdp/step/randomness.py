"""Random numbers that differ between replicas, and come from one seed."""

import contextlib
from typing import Any, Literal

import keras
import tensorflow as tf

from tfdp.step.sample_numbers import SampleSeedGenerator
from tfdp.upstream.keras import keras_models
from tfdp.upstream.private import optional

By = Literal["replica", "sample"]


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


def checked_random_by(value: Any) -> By:
    """Returns what random layers draw numbers for, after checking it.

    Args:
        value: The argument `random_by`.

    Raises:
        ValueError: If it is none of the two.
    """
    if value not in ("replica", "sample"):
        raise ValueError(
            '`random_by` must be "replica", where each replica draws its own '
            'numbers, or "sample", where each sample has its own. '
            f"Received: random_by={value!r}."
        )
    by: By = value
    return by


def seeded_by(random_by: By) -> contextlib.AbstractContextManager[None]:
    """Makes the seed generators created in its context draw apart.

    Args:
        random_by: What they draw other numbers for.
    """
    kind = _kind(random_by)

    def creator(next_creator: Any, **arguments: Any) -> tf.Variable:
        generator = keras_models.seed_generator_under_construction()
        if type(generator) is keras.random.SeedGenerator:
            generator.__class__ = kind
        return next_creator(**arguments)

    return tf.variable_creator_scope(creator)


def seed_layers(model: keras.Model, random_by: By) -> None:
    """Has the layers of a model draw apart that its step has built.

    Keras makes their variables later, when nothing tells whose they are.

    Args:
        model: The model whose step is about to run.
        random_by: What they draw other numbers for.
    """
    with optional():
        for generator in keras_models.seed_generators(model):
            if type(generator) is keras.random.SeedGenerator:
                generator.__class__ = _kind(random_by)


def _kind(random_by: By) -> type[keras.random.SeedGenerator]:
    by_sample = random_by == "sample"
    return SampleSeedGenerator if by_sample else ReplicaSeedGenerator
