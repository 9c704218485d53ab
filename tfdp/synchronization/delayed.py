"""Updates that are one late, so that communication has time."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from tfdp.step import Gradient, call_for_each_replica
from tfdp.synchronization.synchronization import Reduced, Synchronization
from tfdp.synchronization.synchronous import Synchronous
from tfdp.synchronization.variables import VariableSets, replica_local


@keras.saving.register_keras_serializable(package="tfdp")
class Delayed(Synchronous):
    """Applies each mean gradient one update late.

    What replicas have computed in a step is reduced during the next one, while
    they compute again, and applied at its end: a gradient is of the weights
    before the last update (delayed by one, as in Langford et al. 2009,
    Algorithm 2, with a delay of 1). Where communication takes no longer than
    computation it costs no time, if there is hardware that computes meanwhile;
    on as many cores as replicas there is none.

    With `callbacks.DataParallel()` the last gradient of an epoch is applied
    at its end, so that an epoch makes as many updates as without. A backup
    holds the gradient that waits.

    Example:

    >>> with tfdp.auto_strategy().scope():
    ...     optimizer = tfdp.DistributedOptimizer(
    ...         keras.optimizers.SGD(0.1), synchronization=tfdp.Delayed()
    ...     )
    >>> optimizer.synchronization.get_config()
    {}
    """

    weighs = True
    keeps_up = False
    refuses = {
        "accumulation_steps": "accumulation, whose reduction would wait for "
        "the end of a cycle all the same. Use one of them: accumulation makes "
        "communication rarer.",
        "loss_scale": "a loss scale, which changes before a gradient is "
        "applied. Use loss_scale=None and the dtype policy 'mixed_bfloat16'.",
        "adascale": "AdaScale, whose gain is of the gradient at hand. Use "
        "another optimizer, or leave out `synchronization`.",
        "noise_scale": "a NoiseScaleMonitor, which looks at the gradient at "
        "hand. Leave the monitor out.",
        "ema_overwrite_frequency": "`ema_overwrite_frequency`, by which "
        "gradients that wait would meet weights from elsewhere. Leave it out: "
        "`use_ema` alone overwrites at the end of training.",
        "sums": "losses that are added over replicas. Use "
        "reduction='sum_over_batch_size'.",
    }

    def build(
        self,
        variables: Sequence[keras.Variable],
        owner: keras.optimizers.Optimizer,
    ) -> None:
        """Creates the slots of the inner optimizer, and room for gradients."""
        super().build(variables, owner)
        self._place = {id(each): i for i, each in enumerate(variables)}
        self._sets = VariableSets(owner, variables)
        # The key of those whose gradients wait, or 0; the same everywhere.
        self._waits = owner.add_variable(
            (), "zeros", "int64", "only_first_replica", name="waits"
        )
        self._gradients = [
            replica_local(v.shape, v.value.dtype, beside=v) for v in variables
        ]
        self._weight = replica_local((), tf.float32)
        self._complete = tf.function(self._apply_last, autograph=False)

    def reduce(
        self,
        gradients: Sequence[Gradient],
        weight: tf.Tensor | None,
        scatter: tf.Tensor | None = None,
        scale: tf.Tensor | None = None,
    ) -> Reduced:
        """Returns this replica's own gradients, which wait for a step."""
        return Synchronization.reduce(self, gradients, weight)

    def apply(
        self, reduced: Reduced, variables: Sequence[keras.Variable]
    ) -> None:
        """Makes the update of the step before, if there was one."""
        key = self._sets.add(variables)
        held = self._taken(variables)
        with tf.control_dependencies(tf.nest.flatten(held)):
            for own, gradient in zip(
                self._held(variables), reduced.gradients, strict=True
            ):
                own.assign(tf.cast(tf.convert_to_tensor(gradient), own.dtype))
            self._weight.assign(reduced.weight)
        late = super().reduce(*held)
        self.met([*late.gradients, *reduced.gradients])
        tf.distribute.get_replica_context().merge_call(
            lambda strategy, gradients: self._apply_late(
                strategy, gradients, variables, key
            ),
            args=(late.gradients,),
        )

    @property
    def replica_sums(self) -> list[tf.Variable]:
        """The gradients that wait, and the weight behind them."""
        return [*self._gradients, self._weight]

    @property
    def is_complete(self) -> bool:
        """Whether no gradient waits."""
        return not self._waits.numpy()

    def complete(self, strategy: tf.distribute.Strategy) -> None:
        """Applies what waits."""
        key = int(self._waits.numpy())
        if key:
            with strategy.scope():
                self._complete(key)

    def _held(self, variables: Sequence[keras.Variable]) -> list[tf.Variable]:
        return [self._gradients[self._place[id(each)]] for each in variables]

    def _taken(
        self, variables: Sequence[keras.Variable]
    ) -> tuple[list[tf.Tensor], tf.Tensor]:
        gradients = [
            tf.identity(each.read_value()) for each in self._held(variables)
        ]
        return gradients, tf.identity(self._weight.read_value())

    def _apply_late(
        self,
        strategy: tf.distribute.Strategy,
        gradients: Sequence[Gradient],
        variables: Sequence[keras.Variable],
        key: int,
    ) -> None:
        def update() -> tf.Tensor:
            self._sets.check_same(self._waits.value, key)
            call_for_each_replica(
                strategy,
                lambda g: super(Delayed, self).apply(Reduced(g), variables),
                (gradients,),
            )
            return tf.constant(0)

        tf.cond(self._waits.value > 0, update, lambda: tf.constant(0))
        self._waits.assign(key)

    def _apply_last(self, key: int) -> None:
        strategy = tf.distribute.get_strategy()
        variables = self._sets.of(key)
        late = call_for_each_replica(
            strategy,
            lambda: (
                super(Delayed, self).reduce(*self._taken(variables)).gradients
            ),
        )
        self._apply_late(strategy, late, variables, key)
        self._waits.assign(0)
