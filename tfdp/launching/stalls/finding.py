"""What is found out about a worker that gets nowhere."""

import contextlib
import dataclasses
import os
import signal
import time
from collections.abc import Mapping

import psutil

from tfdp.board import BoardFolder, Standing, State, handles
from tfdp.launching.blame import Culprit
from tfdp.launching.stalls.thread_stacks import ThreadStack, parsed

_ANSWER_SECONDS = 3.0
_POLL_SECONDS = 0.05
_STOPPED = ("stopped by a signal", "stopped by a debugger")
_OF_KERNEL = {
    psutil.STATUS_STOPPED: _STOPPED[0],
    psutil.STATUS_TRACING_STOP: _STOPPED[1],
    psutil.STATUS_DISK_SLEEP: "in the kernel, where nothing reaches it",
}
# Where tfdp's own lines tell nothing.
_STEPS = (
    *(State.PAUSE, State.FIRST_STEP, State.TRACING, State.TRAINING),
    *(State.REPLAYING, State.VALIDATING),
)
_DOING = {
    State.STARTING: "before its `fit`",
    State.MEETING: "meeting",
    State.PAUSE: "between epochs",
    State.FIRST_STEP: "in the first step of an epoch",
    State.REPLAYING: "passing over what was trained on before",
    State.TRACING: "in a step for which a graph is made",
    State.TRAINING: "in a step",
    State.CALLBACKS: "in callbacks after a step",
    State.WAITING: "waiting",
    State.VALIDATING: "validating",
    State.SAVING: "saving a backup",
    State.ENDED: "after its `fit`",
}


@dataclasses.dataclass(frozen=True)
class Finding:
    """One worker, as it was found.

    Attributes:
        worker: Its index.
        standing: Where it stands by its board.
        held: Why its process does not run at all; empty where it does.
        stacks: What `faulthandler` has written; empty for nothing.
        without: Why it has not, in words; empty where it has.
    """

    worker: int
    standing: Standing
    held: str = ""
    stacks: str = ""
    without: str = ""

    @property
    def threads(self) -> list[ThreadStack]:
        """What its threads run, the main one first."""
        return parsed(self.stacks)

    @property
    def is_in_program(self) -> bool:
        """Whether some thread runs a line of the program's own."""
        return any(thread.is_in_program for thread in self.threads)

    @property
    def doing(self) -> str:
        """What its board says that it does."""
        if self.held:
            return self.held
        what = self.standing.waits_for
        waits = f" for {what}" if what else ""
        return f"{_DOING[self.standing.state]}{waits}"

    @property
    def words(self) -> str:
        """What it does, at which update, and in which line."""
        update = self.standing.update
        made = f" (update {update})" if update >= 0 else ""
        return f"{self.doing}{made}{self.place and f', in {self.place}'}"

    @property
    def place(self) -> str:
        """Where it is: the innermost line of the program's own, or tfdp's."""
        for thread in sorted(self.threads, key=lambda x: not x.is_in_program):
            own = thread.innermost("program")
            inner = thread.innermost("program", "tfdp")
            if own is None or inner is None or self.standing.state in _STEPS:
                inner = own or inner
            if inner is not None:
                called = (
                    f", called from {own}" if own not in (None, inner) else ""
                )
                return f"{inner}{called}"
        return self.without and f"an unknown line ({self.without})"


def findings(
    boards: BoardFolder,
    standings: Mapping[int, Standing | None],
    *,
    are_woken: bool = False,
) -> list[Finding]:
    """Looks into workers, by the stacks of their threads.

    Takes seconds, where one does not answer.

    Args:
        boards: Where workers write.
        standings: What was read there, of those to look into.
        are_woken: Whether those that are stopped may go on, to answer; for
            such as are to end anyhow. Defaults to `False`.
    """
    asked: dict[int, int] = {}
    refusals: dict[int, str] = {}
    held: dict[int, str] = {}
    for worker, standing in standings.items():
        held[worker] = _held(standing)
        refusals[worker] = _refusal(standing)
        is_stopped = held[worker] in _STOPPED
        if is_stopped and not are_woken and not refusals[worker]:
            refusals[worker] = "it runs nothing"
        file = boards.stacks_file(worker)
        if standing is None or file is None or refusals[worker]:
            continue
        size = file.stat().st_size if file.exists() else 0
        with contextlib.suppress(OSError):
            os.kill(standing.pid, standing.stacks_signal)
            asked[worker] = size
            if is_stopped:
                os.kill(standing.pid, signal.SIGCONT)
    texts = _answers(boards, asked)
    for worker, text in texts.items():
        if not text:
            refusals[worker] = "it does not answer"
        elif held[worker] not in _STOPPED:
            # It was in the kernel for a moment only.
            held[worker] = ""
    return [
        Finding(
            worker,
            standing or Standing(),
            held[worker],
            texts.get(worker, ""),
            refusals[worker],
        )
        for worker, standing in standings.items()
    ]


def last_words(boards: BoardFolder, culprit: Culprit) -> str:
    """Returns where a worker was that has failed, in a sentence.

    Args:
        boards: Where it has written.
        culprit: The worker; where it is stopped, it is to end.

    Returns:
        The sentence; empty where it was in no `fit`, and where it was told of
        already.
    """
    worker = culprit.worker
    standing = boards.standings().get(worker)
    is_told = culprit.stalled_seconds is not None
    if is_told or standing is None or not standing.is_in_fit:
        return ""
    found = Finding(worker, standing)
    if culprit.stopped_seconds is not None:
        (found,) = findings(boards, {worker: standing}, are_woken=True)
        found = dataclasses.replace(found, held="")
    return f"It was {found.words}."


def _answers(boards: BoardFolder, asked: Mapping[int, int]) -> dict[int, str]:
    """Returns what is added to files, once nothing more is."""
    deadline = time.monotonic() + _ANSWER_SECONDS
    texts = dict.fromkeys(asked, "")
    growing = set(asked)
    while growing and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
        for worker in sorted(growing):
            file = boards.stacks_file(worker)
            if file is None:
                continue
            with contextlib.suppress(OSError):
                text = file.read_bytes()[asked[worker] :].decode(
                    errors="replace"
                )
                if text and text == texts[worker]:
                    growing.discard(worker)
                texts[worker] = text
    return texts


def _held(standing: Standing | None) -> str:
    with contextlib.suppress(psutil.Error):
        if standing and standing.pid:
            status = psutil.Process(standing.pid).status()
            return _OF_KERNEL.get(status, "")
    return ""


def _refusal(standing: Standing | None) -> str:
    if standing is None or not standing.pid:
        return "it has no board"
    number = standing.stacks_signal
    # Nobody is to be ended by a question.
    if not number or handles(standing.pid, number) is False:
        return "its program handles the signal itself"
    return ""
