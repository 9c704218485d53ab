"""What data-parallel training needs at the edges of a fit."""

import signal
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

import keras

from tfdp.agreement import Ballot, check_same, program
from tfdp.audits.model_audit import audit
from tfdp.backup import TrainingState, replay_of
from tfdp.board import State, own_board
from tfdp.callbacks.apart import Apart, on_chief_only_apart
from tfdp.callbacks.chief_only import given_the_model, on_chief_only
from tfdp.callbacks.first_word import FirstWord, check_first
from tfdp.callbacks.last_word import LastWord
from tfdp.callbacks.savers import check_saves, saves_models
from tfdp.cluster import naming_lost_workers
from tfdp.compilation import naming_refused
from tfdp.optimizer import DistributedOptimizer
from tfdp.strategy import (
    AsynchronousStrategy,
    BatchStatistics,
    DataParallelStrategy,
)
from tfdp.upstream.keras import inspection, keras_fit


class DataParallel(keras.callbacks.Callback):
    """Keeps the edges of a fit: its begin, the end of each epoch, its end.

    - At the begin of training it refuses, or warns of, what `tfdp.audit`
      finds without data. Workers compare what they are about to train, and
      stop where it differs; all get the chief's weights.
    - Before validation, and before any other callback sees the end of an
      epoch, it updates with what a short last cycle of
      `tfdp.DistributedOptimizer` has gathered, and averages the statistics
      that each replica has kept for itself, as those of `BatchNormalization`.
    - On several workers, a stop that one of them asks for, by
      `model.stop_training` or Ctrl-C, is one of all, after the same update:
      the next one, as the step that makes it tells the others.
    - A callback may compile the model again, as to thaw layers: the old
      optimizer's short cycle is used, and the new one kept as the old was.
    - At the end of training it waits for all workers, so that none ends the
      job for the others. An error from a lost worker names it.
    - Only the chief shows progress, and only there do Keras's own callbacks
      that write files run; see `callbacks.ChiefOnly` for others.

    It must be the first of the callbacks. Without it everything inside a step
    is still exact, but for what only an audit finds.

    Attributes:
        ballot: What workers ask for, while training.

    Raises:
        ValueError: At the end of the first epoch, if it has no batches.
        RuntimeError: At the begin of training, if another callback comes
            before it, if `tfdp.audit` finds an error, or if workers are about
            to train different things.

    Example:

    >>> callbacks = [tfdp.callbacks.DataParallel()]
    """

    # Called instead of training, by what only looks at a program.
    rehearsal: ClassVar[Callable[[keras.Model], None] | None] = None

    def __init__(self) -> None:
        super().__init__()
        self._in_fit = False
        self._optimizers: list[DistributedOptimizer] = []
        self._train_function: Any = None
        self._at_epoch: list[Callable[[int], None]] = []
        self._at_update: list[Callable[[frozenset[str]], None]] = []
        self._at_vote: list[Callable[[], None]] = []
        self._apart: Apart | None = None

    def set_params(self, params: dict[str, Any]) -> None:
        """Silences the progress bar of every worker but the chief.

        Args:
            params: Parameters of the fit, shared by all callbacks.
        """
        strategy = self.model.distribute_strategy
        if isinstance(strategy, DataParallelStrategy):
            params["verbose"] = params["verbose"] if strategy.is_chief else 0
        super().set_params(params)

    def set_model(self, model: keras.Model) -> None:
        """Comes before callbacks that a strategy's model would break.

        Args:
            model: The model that is fitted.
        """
        super().set_model(model)
        keras_fit.change_callbacks(lambda c: given_the_model(c, model))

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Checks what would go wrong later, and less legibly."""
        own_board().note(State.PAUSE, epoch=0)
        callbacks = keras_fit.callbacks_in_use() or []
        check_first(self, callbacks)
        if DataParallel.rehearsal is not None:
            DataParallel.rehearsal(self.model)
        check_saves(self.model, callbacks)
        strategy = self.model.distribute_strategy
        self._statistics = BatchStatistics(self.model, strategy)
        self._optimizers = []
        self._meet()
        self._in_fit = True
        self._saves_models = False
        self._at_vote = []
        if isinstance(strategy, DataParallelStrategy):
            self.ballot = Ballot(strategy)
            self._at_begin: list[Callable[[], None]] = []
            self._at_epoch = []
            self._at_update = []
            keras_fit.change_callbacks(self._with_last_word)
            if strategy.num_workers > 1:
                keras_fit.change_callbacks(on_chief_only)
                self._saves_models = saves_models(callbacks, self._optimizers)
                self._agree(strategy, callbacks)
        if isinstance(strategy, AsynchronousStrategy):
            if strategy.size > 1:
                keras_fit.change_callbacks(on_chief_only_apart)
            # Anybody may save at the end of an epoch.
            self._saves_models = True
            apart = Apart(self.model, self.params, callbacks, self._optimizers)
            apart.begin()
            self._at_begin.append(apart.send)
            self._at_epoch.append(lambda _: apart.send())
            self._apart = apart

    def hear(
        self,
        *,
        at_begin: Callable[[], None],
        at_epoch: Callable[[int], None],
        at_update: Callable[[frozenset[str]], None],
        signals: Iterable[signal.Signals],
    ) -> None:
        """Has a callback called when all other callbacks have been.

        For callbacks that come after this one, from their `on_train_begin`.

        Args:
            at_begin: Called at the begin of training.
            at_epoch: Called at the begin of each epoch, with its index.
            at_update: Called after each update, with what some worker has
                asked for; see `tfdp.agreement.ballot`.
            signals: Signals which then ask, instead of ending this worker.
        """
        self._at_begin.append(at_begin)
        self._at_epoch.append(at_epoch)
        self._at_update.append(at_update)
        for number in signals:
            self.ballot.listen(number)

    def watch_votes(self, listener: Callable[[], None]) -> None:
        """Has a callback told when workers wait for each other to vote.

        For callbacks that come after this one, from their `on_train_begin`.

        Args:
            listener: Called before each vote and after it.
        """
        self._at_vote.append(listener)

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Completes the updates before validation."""
        self._settle()
        if self._in_fit:
            self._name_lost_workers("test_function")

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Completes the updates where no validation did."""
        self._settle()
        if self._apart is not None and logs is not None:
            self._apart.change(logs)
        if self._saves_models:
            self._gather()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Waits for all workers."""
        self._in_fit = False
        if self._apart is not None:
            self._apart.end()
            self._apart = None
        strategy = self.model.distribute_strategy
        if isinstance(strategy, DataParallelStrategy):
            if strategy.num_workers > 1:
                self._gather()
            strategy.barrier()
            self.ballot.close()

    @property
    def may_have_none(self) -> bool:
        """Whether an epoch may end without a step of this worker's."""
        return self._apart is not None

    def begin_step(self) -> None:
        """Looks at what is trained, where a callback has compiled it again."""
        if self.model.train_function is not self._train_function:
            self._look()
            self._name_lost_workers("train_function")
            self._train_function = self.model.train_function
        if self._apart is not None:
            self._apart.begin_step()
        if isinstance(self.model.distribute_strategy, DataParallelStrategy):
            self.ballot.send()

    def end_update(self) -> None:
        """Hears what workers ask for, once all callbacks have seen a step."""
        strategy = self.model.distribute_strategy
        if self._apart is not None:
            self._apart.end_step(stops=self.model.stop_training)
        if strategy.num_workers == 1 and not self._at_update:
            return
        if self.model.stop_training:
            self.ballot.ask("stop")
            self.model.stop_training = strategy.num_workers == 1
        if any(each.is_mid_cycle for each in self._optimizers if each.built):
            return
        if (replay := replay_of(self.model)) is not None and replay.is_far:
            return
        for tell in self._at_vote:
            tell()
        decided = self.ballot.count()
        for tell in self._at_vote:
            tell()
        for listener in self._at_update:
            listener(decided)
        self._obey(decided - {"backup"})

    def begin_training(self) -> None:
        """Tells of the begin, once all callbacks have seen it."""
        for listener in self._at_begin:
            listener()
        if self._apart is not None:
            self._apart.open()

    def begin_epoch(self, epoch: int) -> None:
        """Tells of an epoch, once all callbacks have seen its begin.

        Args:
            epoch: Index of the epoch.
        """
        for listener in self._at_epoch:
            listener(epoch)
        if self._apart is not None:
            self._apart.begin_epoch(epoch)

    def end_epoch(self) -> None:
        """Hears what workers ask for, once all callbacks have seen an epoch."""
        if self.model.stop_training:
            self.ballot.ask("stop")
        decided = self.ballot.count(is_due=True)
        if self._apart is not None and self._apart.stops(own="stop" in decided):
            decided |= {"stop"}
        # What else was asked for has its time at the end of an update.
        for question in decided - {"stop"}:
            self.ballot.ask(question)
        self._obey(decided & {"stop"})

    def _with_last_word(
        self, callbacks: list[keras.callbacks.Callback]
    ) -> list[keras.callbacks.Callback]:
        own = (FirstWord, LastWord)
        others = [c for c in callbacks if not isinstance(c, own)]
        return [*others[:1], FirstWord(), *others[1:], LastWord(self)]

    def _obey(self, decided: frozenset[str]) -> None:
        if decided & {"interrupt", "terminate"}:
            self.model.distribute_strategy.barrier()
            self.ballot.close()
            if "terminate" in decided:
                raise SystemExit(128 + signal.SIGTERM)
            raise KeyboardInterrupt
        if "stop" in decided:
            self.model.stop_training = True

    def _agree(
        self,
        strategy: DataParallelStrategy,
        callbacks: Sequence[keras.callbacks.Callback],
    ) -> None:
        collective = [
            type(callback).__name__
            for callback in callbacks
            if getattr(callback, "is_collective", False)
        ]
        check_same(
            strategy,
            {
                "callbacks for all workers": collective,
                **program(self.model, self.params),
            },
        )
        differing = TrainingState(self.model, strategy).broadcast()
        if differing and strategy.is_chief:
            warnings.warn(
                "Every worker must begin with the same weights. Received: "
                f"other values than the chief's of {', '.join(differing)}. "
                "All have the chief's now; load weights on every worker, or "
                "on the chief alone, to be without this warning.",
                stacklevel=3,
            )
        self.ballot.listen(signal.SIGINT)
        self._name_lost_workers("train_function")

    def _name_lost_workers(self, name: str) -> None:
        cluster = getattr(self.model.distribute_strategy, "cluster", None)
        function: Any = getattr(self.model, name)
        if function is None or hasattr(function, "names_lost_workers"):
            return
        named: Any = naming_refused(self.model, function)
        if self._apart is not None:
            named = self._apart.naming(named)
        elif cluster is not None:
            named = naming_lost_workers(named, cluster)
        if named is not function:
            named.names_lost_workers = True
            setattr(self.model, name, named)

    def _settle(self) -> None:
        if self._in_fit:
            self._look()
            for optimizer in self._optimizers:
                optimizer.flush()
            self._statistics.average()
            if self._apart is not None:
                self._apart.settle()

    def _gather(self) -> None:
        if self._apart is not None:
            self._apart.gather()
        for optimizer in self._optimizers:
            optimizer.gather_state()

    def _look(self) -> None:
        """Takes leave of optimizers that the model no longer has."""
        found = inspection.optimizers(self.model)
        if [id(each) for each in found] != self._met:
            for optimizer in self._optimizers:
                # Of those that stay, the cycle goes on.
                if id(optimizer) not in map(id, found):
                    optimizer.flush()
            self._meet()
            self._build()
        self._statistics.look()

    def _meet(self) -> None:
        """Checks what is about to be trained."""
        findings = audit(self.model)
        errors = findings.of("error")
        if errors:
            raise RuntimeError("\n".join(each.message for each in errors))
        for warning in findings.of("warning"):
            warnings.warn(warning.message, stacklevel=3)
        found = inspection.optimizers(self.model)
        self._met = [id(each) for each in found]
        self._optimizers = [
            each for each in found if isinstance(each, DistributedOptimizer)
        ]
        for each in self._optimizers:
            each.keep_edges()

    def _build(self) -> None:
        optimizer = self.model.optimizer
        variables = self.model.trainable_variables
        if optimizer in self._optimizers and variables and not optimizer.built:
            # As Keras does before the first step of a fit.
            with self.model.distribute_strategy.scope():
                optimizer.build(variables)


def edges_of(callbacks: list[keras.callbacks.Callback]) -> DataParallel:
    """Returns the `DataParallel` of a fit, for what backs it up.

    Args:
        callbacks: All callbacks of the fit.

    Raises:
        RuntimeError: If there is none, or it is not the first.
    """
    for callback in callbacks:
        if isinstance(callback, DataParallel):
            check_first(callback, callbacks)
            return callback
    raise RuntimeError(
        "`callbacks.BackupAndRestore` needs `callbacks.DataParallel`, by "
        "which workers agree when to back up. Received: "
        f"{', '.join(type(c).__name__ for c in callbacks)}. Put "
        "`tfdp.callbacks.DataParallel()` at the head of the list given to "
        "`fit`."
    )
