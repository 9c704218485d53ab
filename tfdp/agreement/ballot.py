"""What some worker asks for, agreed by all at the same step.

A worker that stopped by itself would leave the others waiting in the next
step. So each asks in the step to come, and all hear of it at the end of the
update that it is a part of.
"""

import signal
import sys
import threading
from typing import Any

from tfdp.agreement.gathering import Workers, all_gather
from tfdp.agreement.step_message import StepMessage
from tfdp.board import own_board
from tfdp.upstream.keras import keras_fit

QUESTIONS = ("stop", "interrupt", "terminate", "backup", "memory")
_OF_SIGNAL = {signal.SIGINT: "interrupt", signal.SIGTERM: "terminate"}


class Ballot:
    """Gathers what the workers ask for.

    - `"stop"`: the end of training, as `model.stop_training` asks for it.
    - `"interrupt"`: what Ctrl-C asks for.
    - `"terminate"`: what SIGTERM asks for, sent by a scheduler.
    - `"backup"`: a backup now.
    - `"memory"`: one in memory alone.

    Args:
        strategy: The strategy whose workers meet.

    Attributes:
        is_apart: Whether workers meet for each count, instead of in the step
            before, for what measures how long they take.

    Example:

    >>> ballot = Ballot(tfdp.MirroredStrategy(["CPU:0"]))
    >>> ballot.ask("stop")
    >>> sorted(ballot.count()), sorted(ballot.count())
    (['stop'], [])
    """

    def __init__(self, strategy: Workers) -> None:
        self._strategy = strategy
        self._message: StepMessage | None = getattr(strategy, "message", None)
        self.is_apart = False
        self._asked: set[str] = set()
        self._sent: set[str] = set()
        self._known: set[str] = set()
        self._previous: dict[signal.Signals, Any] = {}
        self._fit: Any = None

    def ask(self, question: str) -> None:
        """Asks for something, on this worker.

        Args:
            question: One of those above.
        """
        self._asked.add(question)

    def decide(self, question: str) -> None:
        """Asks for what every worker asks for now, so that nobody is told.

        The next count has it, and no step has to carry it before.

        Args:
            question: One of those above.
        """
        self._known.add(question)

    def send(self) -> None:
        """Has the next step carry what this worker asks for."""
        if self._message is not None:
            asked, self._asked = self._asked, set()
            self._sent |= asked
            self._message.ask(_votes(self._sent))

    def count(self, *, is_due: bool = False) -> frozenset[str]:
        """Returns what any worker has asked for, and it was not returned yet.

        A collective, where there are several workers and no step has carried
        the votes.

        Args:
            is_due: Whether to hear of all that was asked for until now, also
                of what a later step would carry. Defaults to `False`.
        """
        votes = None if self._message is None else self._message.heard()
        if is_due or self.is_apart or votes is None:
            asked, self._asked = self._asked, set()
            self._sent |= asked
            votes = self._gathered()
        decided = {q for q, vote in zip(QUESTIONS, votes, strict=True) if vote}
        self._sent -= decided
        known, self._known = self._known, set()
        return frozenset(decided | known)

    def _gathered(self) -> list[int]:
        own = _votes(self._sent)
        if self._strategy.num_workers == 1:
            return own
        with own_board().waiting("the vote of all workers"):
            table = all_gather(self._strategy, own, often=True)
        return list(table.sum(axis=0).tolist())

    def listen(self, number: signal.Signals) -> None:
        """Makes a signal ask, instead of ending this worker by itself.

        A second signal ends it, as does one that comes when the `fit` that is
        running now has ended, by an error perhaps.
        Without effect outside of the main thread, where Python handles no
        signals.

        Args:
            number: SIGINT or SIGTERM.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        self._fit = keras_fit.fit_under_way()
        if number not in self._previous:
            self._previous[number] = signal.signal(number, self._heard)

    def close(self) -> None:
        """Gives the signals back to whom they belonged, and asks no more."""
        if self._message is not None:
            self._message.ask(_votes(set()))
        for number in list(self._previous):
            self._give_back(number)

    def _heard(self, number: int, frame: Any) -> None:
        number = signal.Signals(number)
        question = _OF_SIGNAL[number]
        fit = keras_fit.fit_under_way(frame)
        is_again = question in self._asked | self._sent
        if is_again or fit is None or fit is not self._fit:
            self._give_back(number)
            signal.raise_signal(number)
        else:
            print(
                f"{number.name}: training ends after this update; send it "
                "again to end at once.",
                file=sys.stderr,
                flush=True,
            )
            self.ask(question)

    def _give_back(self, number: signal.Signals) -> None:
        signal.signal(number, self._previous.pop(number) or signal.SIG_DFL)


def _votes(asked: set[str]) -> list[int]:
    return [int(question in asked) for question in QUESTIONS]
