"""What workers tell each other in each step of Keras's: one sum for all.

Keras has the workers meet for each entry of a step's logs. Here all entries
travel together, and with them what workers ask for between steps, so that
nobody has to be asked after each.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

# The name tells this collective from others in a profile.
NAME = "tfdp_step_message"


class StepMessage:
    """Carries logs, and what workers ask for, in the step that is made.

    Args:
        strategy: The strategy whose workers meet in its steps.
        questions: How many there are that a worker may ask.
    """

    def __init__(self, strategy: Any, questions: int) -> None:
        self._strategy = strategy
        self._replicas = strategy.num_replicas_in_sync
        self._replicas_here = self._replicas // strategy.num_workers
        # This worker's alone, whichever replicas it has.
        with tf.device("CPU:0"):
            self._own, self._heard = (
                tf.Variable(np.zeros(size), trainable=False, dtype=tf.float64)
                for size in (questions, 1 + questions)
            )
        self._sent = [0] * questions
        self._count = 0.0
        self._logged: list[tuple[Any, Any]] = []

    def ask(self, votes: Sequence[int]) -> None:
        """Says what this worker asks for, in each step from the next one on.

        Args:
            votes: For each question 1 or 0.
        """
        if list(votes) != self._sent:
            self._sent = list(votes)
            self._own.assign(np.array(votes, np.float64))

    def heard(self) -> list[int] | None:
        """Returns the votes for each question in the step before.

        Returns:
            The same numbers on all workers; `None` where no step has carried
            any since the last call.
        """
        count, *votes = self._heard.numpy().tolist()
        before, self._count = self._count, count
        return None if count == before else list(map(int, votes))

    def sent_with(
        self,
        run: Callable[[Callable[..., Any]], Any],
        step: Callable[..., Any],
        *,
        has_votes: bool,
    ) -> Any:
        """Runs a step that carries it.

        Args:
            run: Runs a function on every replica.
            step: The function.
            has_votes: Whether it carries what workers ask for, too.

        Returns:
            What the step has returned, as distributed values; `logged` knows
            what all workers log of it.
        """

        @tf.autograph.experimental.do_not_convert
        def telling(*args: Any, **kwargs: Any) -> Any:
            outputs = step(*args, **kwargs)
            numbers = list(filter(_is_number, keras.tree.flatten(outputs)))
            return outputs, *self._told(numbers, has_votes)

        outputs, means, votes = run(telling)
        numbers = [
            leaf
            for leaf in keras.tree.flatten(outputs)
            if _is_number(self._here(leaf))
        ]
        self._logged = [
            *zip(numbers, map(self._here, means), strict=True),
            *((leaf, self._here(leaf)) for leaf in self._without_mean(outputs)),
        ]
        if has_votes:
            count = self._heard[:1] + 1.0
            self._heard.assign(tf.concat([count, self._here(votes)], 0))
        return outputs

    def logged(self, value: Any) -> Any:
        """Returns what is logged for what the last step has returned.

        Args:
            value: One of the values returned, as it is.

        Returns:
            The mean over all replicas of floating numbers, of each where there
            are as many on all; what has no mean, as a text or what Python alone
            knows, of this worker; `None` for anything else.
        """
        for known, log in self._logged:
            if known is value:
                return log
        return None

    def _without_mean(self, outputs: Any) -> list[Any]:
        return [
            leaf
            for leaf in keras.tree.flatten(outputs)
            if not _has_mean(self._here(leaf))
        ]

    def _told(
        self, numbers: Sequence[tf.Tensor], has_votes: bool
    ) -> tuple[list[tf.Tensor], tf.Tensor]:
        """Returns means of numbers, and sums of votes, in replica context."""
        context = tf.distribute.get_replica_context()
        parts = [tf.reshape(tf.cast(n, tf.float64), [-1]) for n in numbers]
        if has_votes:
            place = context.replica_id_in_sync_group % self._replicas_here
            own = self._own.read_value()
            parts.append(tf.where(tf.equal(place, 0), own, tf.zeros_like(own)))
        if not parts:
            return [], tf.zeros([0], tf.float64)
        with tf.name_scope(NAME):
            total = context.all_reduce(
                tf.distribute.ReduceOp.SUM, tf.concat(parts, 0)
            )
        sizes = [each.shape.num_elements() for each in numbers]
        *sums, votes = tf.split(total, [*sizes, total.shape[0] - sum(sizes)])
        return [
            tf.cast(tf.reshape(each / self._replicas, like.shape), like.dtype)
            for each, like in zip(sums, numbers, strict=True)
        ], votes

    def _here(self, value: Any) -> Any:
        return self._strategy.experimental_local_results(value)[0]


def _is_number(leaf: Any) -> bool:
    return (
        isinstance(leaf, tf.Tensor)
        and (leaf.dtype.is_floating or leaf.dtype.is_integer)
        and leaf.shape.is_fully_defined()
    )


def _has_mean(leaf: Any) -> bool:
    return tf.is_tensor(leaf) and (
        leaf.dtype.is_floating or leaf.dtype.is_integer
    )
