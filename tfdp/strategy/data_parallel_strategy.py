"""What tfdp's strategies share: the calls of Keras's that need repair."""

import contextlib
import functools
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tfdp.agreement import StepMessage
from tfdp.board import own_board
from tfdp.compilation import CompileTimes, compiled_step
from tfdp.data import length
from tfdp.step import (
    By,
    Layout,
    check_not_divided,
    count_for,
    counted,
    divisions,
    fitted,
    metrics_of_all,
    placed,
    pretended,
    seed_layers,
    seeded_by,
    stamped,
    taking_turns,
    waiting_for,
)
from tfdp.strategy.distributed_dataset import (
    CountedDataset,
    no_batches,
    prepared,
)
from tfdp.strategy.first_step import FirstStep
from tfdp.strategy.same_variables import (
    naming_other_variables,
    sending_any_type,
)
from tfdp.strategy.sparse_rows import as_rows, with_tensors
from tfdp.upstream.keras import (
    keras_data,
    keras_epochs,
    keras_fit,
    keras_losses,
    keras_steps,
)
from tfdp.upstream.tensorflow import tf_functions


class DataParallelStrategy(tf.distribute.Strategy):
    """Repairs a strategy for Keras 3; mixed in before TensorFlow's class.

    It overrides only public methods, only where upstream fails.

    Attributes:
        groups: For each replica of this process the names of its devices, in
            the order of the stages; `None` where it has only one.
        random_by: What random layers draw for: `"replica"`, or `"sample"`.
    """

    random_by: By = "replica"
    groups: tuple[tuple[str, ...], ...] | None = None
    drawn_seed: int | None = None
    stride: tf.Variable | None = None
    # What several workers tell each other in a step.
    message: StepMessage | None = None
    # Set by what measures steps.
    step_clock: Callable[[], tf.Tensor] | None = None
    request_clock: Callable[[], tf.Tensor] | None = None

    @property
    def num_workers(self) -> int:
        """Number of processes that train together."""
        return 1

    @property
    def num_replicas_in_sync(self) -> int:
        """Number of replicas, over all workers."""
        pretence = pretended()
        if pretence:
            return pretence
        count = super().num_replicas_in_sync
        if count == 1:
            return count
        if divisions() is None:
            # Keras divides what a layer adds, too.
            return 1 if keras_losses.divides_inside_of_a_layer() else count
        divider = keras_losses.divider()
        if divider is None:
            return count
        check_not_divided(keras_losses.value_to_divide())
        return count_for(count, is_keras=divider == "keras")

    @property
    def worker_index(self) -> int:
        """Place of this process among the workers; 0 is the chief."""
        return 0

    @property
    def is_chief(self) -> bool:
        """Whether this process is the one that writes and prints."""
        return self.worker_index == 0

    def barrier(self) -> None:
        """Waits until every worker is here; nothing for one worker."""

    def scope(
        self,
    ) -> contextlib.AbstractContextManager[tf.distribute.Strategy]:
        """Returns a context in which models are built for the strategy.

        Random layers made in it draw for every replica, or every sample.

        Returns:
            What TensorFlow's `Strategy.scope` does.
        """
        keras_data.silence_own_default()
        contexts = [super().scope, lambda: seeded_by(self.random_by)]
        if self.num_workers > 1:
            contexts.append(lambda: naming_other_variables(self.worker_index))
            contexts.append(lambda: sending_any_type(self))
        build = keras_fit.symbolic_build()
        if build is not None:
            keras_steps.compile_inside(build.model)
            contexts.append(lambda: self._first_step.building(build))
        return _Scope(*contexts)

    @property
    def _layout(self) -> Layout | None:
        by_sample = self.random_by == "sample"
        return Layout(self.num_workers, self.stride) if by_sample else None

    @functools.cached_property
    def compile_times(self) -> CompileTimes:
        """When XLA has compiled replicas of this worker."""
        return CompileTimes()

    @functools.cached_property
    def _first_step(self) -> FirstStep:
        return FirstStep(
            lambda fn, data: self._run(self._counting(fn, fn), (data,))
        )

    @functools.cached_property
    def _counting_functions(self) -> weakref.WeakKeyDictionary[Any, Any]:
        return weakref.WeakKeyDictionary()

    def run(
        self,
        fn: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        options: tf.distribute.RunOptions | None = None,
    ) -> Any:
        """Runs `fn` on every replica, as TensorFlow does.

        While `fn` runs, `tfdp.DistributedOptimizer` knows how many samples
        the replica was given: the size of the first axis of the first tensor
        in `args` and `kwargs` that has one.

        Args:
            fn: Function, or `tf.function`, to run on every replica.
            args: Positional arguments, distributed values among them.
            kwargs: Keyword arguments, likewise.
            options: `tf.distribute.RunOptions`.

        Returns:
            What `fn` returned, as distributed values.
        """
        if not tf.executing_eagerly():
            own_board().trace()
        if tf_functions.is_tf_function(fn):
            counting = self._counting_functions.get(fn)
            if counting is None:
                counting = tf_functions.wrapped_inside(
                    fn, lambda inside: self._counting(inside, fn)
                )
                self._counting_functions[fn] = counting
        else:
            converted = self._compiled(fn)
            counting = self._counting(
                fitted(
                    converted,
                    made_from=fn,
                    args=args,
                    replicas_here=self.num_replicas_in_sync // self.num_workers,
                ),
                made_from=fn,
            )
        model = keras_fit.model_of_any_step(fn)
        if model is not None:
            seed_layers(model, self.random_by)
        with metrics_of_all(model):
            is_own = model is not None and keras_fit.is_own_call_of_run()
            if self.message is None or not is_own:
                return self._run(counting, args, kwargs, options)
            return self.message.sent_with(
                lambda step: self._run(step, args, kwargs, options),
                counting,
                has_votes=keras_fit.model_of_step(fn, "train_step") is not None,
            )

    def _compiled(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        model = keras_fit.model_of_step(fn, "train_step")
        if model is not None and keras_steps.compiles(model):
            return compiled_step(model, self.compile_times)
        return tf_functions.converted_by_autograph(fn)

    def _run(self, counting: Any, *arguments: Any) -> Any:
        return super().run(counting, *arguments)

    def _counting(self, fn: Any, made_from: Any) -> Callable[..., Any]:
        @tf.autograph.experimental.do_not_convert
        @functools.wraps(fn)
        def counting(*args: Any, **kwargs: Any) -> Any:
            began = None
            args, kwargs = with_tensors((args, kwargs))
            if self.step_clock is not None:
                began, args, kwargs = stamped(self.step_clock, args, kwargs)
            try:
                with (
                    taking_turns(made_from),
                    waiting_for((args, kwargs)),
                    counted(args, kwargs, began=began),
                    placed(self._layout),
                ):
                    return fn(*args, **kwargs)
            except Exception as error:
                # What tfdp has to say comes first, and alone.
                own = tf_functions.own_words(error, "tfdp")
                if own is None or own is error:
                    raise
                raise own from None

        return counting

    def reduce(
        self,
        reduce_op: tf.distribute.ReduceOp | str,
        value: Any,
        axis: int | None = None,
    ) -> Any:
        """Reduces `value` over replicas, as TensorFlow does.

        Two calls of Keras's own that TensorFlow refuses are answered: the one
        that wants the shape of a batch, and the mean of scalars.

        Args:
            reduce_op: `tf.distribute.ReduceOp` or its name.
            value: Distributed value, or a structure of them.
            axis: Axis to reduce within a replica too, or `None`.

        Returns:
            The reduced value.
        """
        if keras_fit.is_symbolic_build():
            return tf.nest.map_structure(
                lambda v: self.experimental_local_results(v)[0], value
            )
        is_mean = reduce_op in ("MEAN", tf.distribute.ReduceOp.MEAN)
        if self.message is not None and is_mean:
            log = self.message.logged(value)
            if log is not None:
                return log
        if axis == 0 and _are_scalars(self.experimental_local_results(value)):
            axis = None
        return super().reduce(reduce_op, value, axis=axis)

    def experimental_distribute_dataset(
        self,
        dataset: tf.data.Dataset,
        options: tf.distribute.InputOptions | None = None,
    ) -> tf.distribute.DistributedDataset:
        """Splits each batch of `dataset` over the replicas.

        Args:
            dataset: Dataset whose batches are micro-batches: the samples that
                all replicas, on all workers, see in one step. Every worker is
                given the same dataset.
            options: `tf.distribute.InputOptions`.

        Returns:
            The distributed dataset.

        Raises:
            ValueError: If the dataset has no batches.
        """
        epochs = keras_epochs.iterator_under_construction(within=2)
        if epochs is not None:
            keras_epochs.begin_late(epochs, no_batches)
            in_order = keras_epochs.py_dataset_in_order(epochs)
            dataset = dataset if in_order is None else in_order
        given = dataset
        # Of arrays, and of what is shuffled, Keras alone knows the number.
        if epochs is not None and epochs.num_batches == 0:
            raise no_batches()
        dataset = prepared(dataset)
        steps = length(dataset)
        distributed = CountedDataset(
            super().experimental_distribute_dataset(
                self._divisible(dataset), options
            ),
            dataset,
            given,
            strategy=self,
            steps=steps,
        )
        if epochs is not None and steps is not None:
            keras_epochs.take_length(epochs, distributed)
        return distributed

    def distribute_datasets_from_function(
        self,
        dataset_fn: Callable[[tf.distribute.InputContext], tf.data.Dataset],
        options: tf.distribute.InputOptions | None = None,
    ) -> tf.distribute.DistributedDataset:
        """Distributes a dataset that a function makes.

        Args:
            dataset_fn: Returns a dataset, batched per replica, given a
                `tf.distribute.InputContext`.
            options: `tf.distribute.InputOptions`.

        Returns:
            The distributed dataset.
        """
        sources: list[tf.data.Dataset] = []

        def kept(context: tf.distribute.InputContext) -> tf.data.Dataset:
            sources.append(dataset_fn(context))
            return self._divisible(sources[-1])

        distributed = super().distribute_datasets_from_function(kept, options)
        return CountedDataset(
            distributed, sources[0], strategy=self, is_split=True
        )

    def _divisible(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        return as_rows(dataset, has_empty=self.num_replicas_in_sync > 1)


class _Scope:
    """Contexts entered together; as often as wanted, as TensorFlow's can."""

    def __init__(
        self, *contexts: Callable[[], contextlib.AbstractContextManager[Any]]
    ) -> None:
        self._contexts = contexts
        self._entered: list[contextlib.ExitStack] = []

    def __enter__(self) -> Any:
        with contextlib.ExitStack() as stack:
            first, *_ = [stack.enter_context(new()) for new in self._contexts]
            self._entered.append(stack.pop_all())
        return first

    def __exit__(self, *exception: Any) -> bool | None:
        return self._entered.pop().__exit__(*exception)


def _are_scalars(values: Sequence[Any]) -> bool:
    return all(tf.is_tensor(v) and v.shape.rank == 0 for v in values)
