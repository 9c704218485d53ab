"""Updates that a server makes, of the gradients of workers that do not wait."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfdp.asynchronous.description import Description
from tfdp.asynchronous.exchange import Exchange
from tfdp.asynchronous.feed import NEEDS_EDGES, Feed
from tfdp.asynchronous.given import Given
from tfdp.asynchronous.gradients import Rows
from tfdp.asynchronous.received import Weights
from tfdp.asynchronous.serving.training import CHIEF
from tfdp.step import Gradient
from tfdp.synchronization.inner_optimizer import single_optimizers
from tfdp.synchronization.synchronization import Reduced
from tfdp.synchronization.synchronous import Synchronous

_WEIGHTS, _SLOTS = "weights/", "optimizer/"


class Asynchronous(Synchronous):
    """Sends the gradient of a worker's replicas to the server, which updates.

    `DistributedOptimizer` takes it by itself in the scope of an
    `AsynchronousStrategy`. The update is the server's, by the user's optimizer:
    clipping, decay, averages of weights and constraints, and `iterations` are
    those of all workers together. The optimizer here has what the server had
    when it was asked last, for saving.

    Attributes:
        sync_every: Updates of a worker from one exchange to the next.
        holds_weights: Whether they are the same from one to the next.
        given: The weights of the last one.
    """

    sync_every = 1
    holds_weights = True
    refuses = {
        "adascale": "AdaScale, which compares the replicas' gradients in each "
        "update. Use another optimizer, or a synchronous strategy.",
        "noise_scale": "a NoiseScaleMonitor, which compares the gradients of "
        "all replicas. Leave the monitor out, or use a synchronous strategy.",
        "compression": "`compression`, which is of what replicas reduce. Leave "
        "it out.",
    }

    def build(
        self,
        variables: Sequence[keras.Variable],
        owner: keras.optimizers.Optimizer,
    ) -> None:
        """Creates what the server has too, and notes who owns the cycle."""
        super().build(variables, owner)
        self.trained = list(variables)
        self.place_by_id = {id(each): i for i, each in enumerate(variables)}
        self._owner = owner
        self._exchange: Exchange | None = None
        self._feed = Feed()
        self._newest: list[Weights] = []
        self._names: list[str] = []
        self._steps = 0
        self.given = Given()
        # In the step that is traced; none outside.
        self._updates_in_step: int | None = None

    @property
    def served_optimizer(self) -> keras.optimizers.Optimizer:
        """The optimizer by which the server updates, as it is known here."""
        return self.inner_optimizer

    def describe(
        self,
        statistics: Sequence[keras.Variable],
        sums: Sequence[keras.Variable],
    ) -> Description:
        """Returns what the server is to train.

        Args:
            statistics: Variables that are averaged at the end of an epoch.
            sums: Variables that are added up then.
        """
        return Description.of(
            self.trained, self.served_optimizer, statistics, sums
        )

    def values(self) -> list[np.ndarray]:
        """Returns the weights as they are here."""
        return [np.asarray(v.numpy()) for v in self.trained]

    def begin(self, exchange: Exchange, feed: Feed) -> None:
        """Begins to exchange.

        Args:
            exchange: What this worker says to the server.
            feed: The batches it takes.
        """
        self._exchange, self._feed = exchange, feed

    def begin_step(self) -> None:
        """Gets weights to take a gradient at, in cross-replica context.

        Called once the data of the step are there: until then nobody should
        wait for it.
        """
        self._updates_in_step = 0
        # After the update of the step before, where one graph is of several.
        after = tf.reshape(self.trained[0].value, (-1,))[:1]
        is_new, is_last = tf.numpy_function(
            lambda after: self.read_for_step(), [after], [tf.bool, tf.bool]
        )
        is_new.set_shape(())
        is_last.set_shape(())

        def assign() -> tf.Tensor:
            self.assign(self.received(lambda: self._newest.pop(), []))
            return tf.constant(0)

        tf.cond(is_new, assign, lambda: tf.constant(0))
        cycle = self._owner.accumulation_steps
        if cycle > 1:
            # So that the update is made although its cycle is not full.
            micro_step = self._owner.micro_step
            micro_step.assign(
                tf.where(
                    is_last, tf.constant(cycle - 1, "int64"), micro_step.value
                )
            )

    def end_step(self) -> None:
        """Ends what `begin_step` has begun, in the same graph."""
        self._updates_in_step = None

    def count_update(self) -> None:
        """Counts an update of a step, as it is traced.

        Raises:
            RuntimeError: If it is the second one.
        """
        if self._updates_in_step is None:
            return
        self._updates_in_step += 1
        if self._updates_in_step > 1:
            raise RuntimeError(
                "A step of an asynchronous worker sends one gradient, of "
                "weights that it has read for it. Received: a `train_step` "
                "that applies the optimizer more than once. Apply it once, "
                "to all variables; or use a synchronous strategy."
            )

    def apply(
        self, reduced: Reduced, variables: Sequence[keras.Variable]
    ) -> None:
        """Has the server make the update, and takes the newest weights."""
        tf.distribute.get_replica_context().merge_call(
            self._send, args=(list(reduced.gradients), list(variables))
        )

    def skip(self) -> None:
        """Tells the server of an update that is not made."""
        self.assign(self.received(self.sent_nothing, []))

    @property
    def overwrites(self) -> bool:
        """Whether weights are overwritten here: the server's averages are."""
        return False

    def finalize(self, variables: Sequence[keras.Variable]) -> None:
        """Waits for all workers, and takes the last weights."""
        if self._exchange is not None:
            self.take_over(self._exchange.end())
            if self._exchange.worker == CHIEF:
                # The server ends with the chief's program, not before.
                state = self.served()
                self.load_state(state)
                self._names = list(state)
            self._exchange = None

    def take_over(self, weights: Weights) -> None:
        """Gives the variables the values of a server, outside of any step.

        Args:
            weights: They.
        """
        self.given.version = weights.version
        self.given.keep(weights.values)
        self.assign([tf.constant(weights.version, "int64"), *weights.values])

    def state_of(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Returns what the server is to begin with, by its names.

        Args:
            names: Names of the server's, in the order of the variables.
        """
        return {
            name: np.asarray(variable.numpy())
            for name, variable in self._named(names)
        }

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Takes the state of a server: its weights, slots and counts.

        Args:
            state: What an exchange has saved.
        """
        for name, variable in self._named(state):
            variable.assign(state[name])

    @property
    def served_variables(self) -> list[keras.Variable]:
        """The weights, slots and counts, which are the server's."""
        return [*self.trained, *self.inner_optimizer.variables]

    def served(self) -> dict[str, np.ndarray]:
        """Returns what the server has, of one version.

        The count of updates here is that version's then. Weights stay those
        that this worker has read. A learning rate is the one that was set
        here, of which the server may not have heard. After a `fit`, what is
        here.
        """
        if self._exchange is None and self._names:
            return self.state_of(self._names)
        state = self._checked().save()
        counts = [each.iterations for each in self.optimizers]
        rates = [each.learning_rate for each in self.optimizers]
        for name, variable in self._named(state):
            if any(variable is each for each in counts):
                variable.assign(state[name])
            if any(variable is each for each in rates):
                state[name] = np.asarray(variable.numpy())
        return state

    def serve(self, state: Mapping[str, np.ndarray]) -> None:
        """Has the server go on from a state, and this worker too."""
        cast = {
            name: np.asarray(state[name]).astype(
                tf.as_dtype(variable.dtype).as_numpy_dtype
            )
            for name, variable in self._named(state)
        }
        self._checked().load({**state, **cast})
        self.load_state(cast)
        self.given.keep(self.values())

    def _named(
        self, names: Sequence[str] | Mapping[str, Any]
    ) -> list[tuple[str, keras.Variable]]:
        pairs: list[tuple[str, keras.Variable]] = []
        for prefix, variables in (
            (_WEIGHTS, self.trained),
            (_SLOTS, self.served_optimizer.variables),
        ):
            theirs = [name for name in names if name.startswith(prefix)]
            pairs += zip(theirs, variables, strict=True)
        return pairs

    def read_for_step(self) -> tuple[np.bool_, np.bool_]:
        """Returns whether weights are new, and the step's batch the last."""
        exchange = self._checked()
        is_last = self._feed.use()
        weights = exchange.read()
        self._newest = [] if weights is None else [weights]
        return np.bool_(weights is not None), np.bool_(is_last)

    def _send(
        self,
        strategy: tf.distribute.Strategy,
        gradients: Sequence[Gradient],
        variables: Sequence[keras.Variable],
    ) -> None:
        self.count_update()
        places = [self.place_by_id[id(each)] for each in variables]
        own = tf.nest.map_structure(
            lambda g: strategy.experimental_local_results(g)[0],
            list(gradients),
        )
        tensors: list[list[tf.Tensor]] = []
        for gradient, variable in zip(own, variables, strict=True):
            if isinstance(gradient, tf.IndexedSlices):
                indices = tf.cast(gradient.indices, "int64")
                values = tf.cast(gradient.values, variable.dtype)
                tensors.append([indices, values])
            else:
                tensors.append([tf.cast(gradient, variable.dtype)])

        def update(*arrays: np.ndarray) -> Weights:
            given: list[Any] = [None] * len(self.trained)
            left = iter(arrays)
            for place, parts in zip(places, tensors, strict=True):
                first = next(left)
                given[place] = (
                    first if len(parts) == 1 else Rows(first, next(left))
                )
            return self.sent(given)

        self.assign(self.received(update, sum(tensors, [])))

    def sent(
        self, gradients: Sequence[Any], *, then_read: bool = True
    ) -> Weights:
        """Sends a gradient of each variable, and returns the newest weights."""
        step, self._steps = self._steps, self._steps + 1
        return self._checked().update(
            gradients, step=step, then_read=then_read, **self._used()
        )

    def sent_nothing(self) -> Weights:
        """Makes no update, and returns the newest weights."""
        return self._checked().skip(then_read=True, **self._used())

    def _used(self) -> dict[str, Any]:
        return {"epoch": self._feed.epoch, "batches": self._feed.used()}

    def received(
        self, ask: Callable[..., Weights], given: Sequence[tf.Tensor]
    ) -> list[tf.Tensor]:
        """Returns the version and the weights of an answer, in a graph."""

        def answered(*given: np.ndarray) -> list[np.ndarray]:
            weights = ask(*given)
            self.given.note(weights)
            return [np.array(weights.version, "int64"), *weights.values]

        shapes = [(), *(variable.shape for variable in self.trained)]
        dtypes = [tf.int64, *(tf.as_dtype(v.dtype) for v in self.trained)]
        received = tf.numpy_function(answered, list(given), dtypes)
        for tensor, shape in zip(received, shapes, strict=True):
            tensor.set_shape(shape)
        return received

    def assign(self, received: Sequence[Any]) -> None:
        """Gives the variables new values, in cross-replica context."""
        version, *values = received
        for each in single_optimizers(self.served_optimizer):
            each.iterations.assign(version)
        for variable, value in zip(self.trained, values, strict=True):
            variable.assign(value)

    def _checked(self) -> Exchange:
        if self._exchange is None:
            raise RuntimeError(NEEDS_EDGES)
        return self._exchange
