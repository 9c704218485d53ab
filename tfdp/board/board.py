"""Where this process says what it is doing, for the launcher to see."""

import contextlib
import functools
import json
import mmap
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator

from tfdp.board import layout
from tfdp.board.layout import LOGS
from tfdp.board.stacks import SUFFIX, offer_stacks, still_offered
from tfdp.board.standing import Standing, State, packed
from tfdp.settings import board_file

Listener = Callable[[State, str, float, float], None]
_STEPS = (
    *(State.PAUSE, State.FIRST_STEP, State.TRAINING),
    *(State.REPLAYING, State.VALIDATING),
)


class Board:
    """Writes where a worker stands; costs microseconds, and never raises.

    The first process to open a file has it: what a worker starts writes
    nothing. One that is missing or damaged is told of, once; training goes on
    without.

    Args:
        path: The file that the launcher has made; `None` to write nothing.
        clock: Returns the time. Defaults to `time.monotonic`, which processes
            of a machine share.

    Attributes:
        state: What was noted last.

    Example:

    >>> board = Board(None)
    >>> board.note(State.TRAINING, step=1)
    >>> board.state.name
    'STARTING'
    """

    def __init__(
        self,
        path: str | None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Opens the file, and offers stacks."""
        self.state = State.STARTING
        self._words = b""
        self._since = self._updated = 0.0
        self._made = self._step = self._stacks_signal = 0
        self._spent: list[float] = []
        self._map: mmap.mmap | None = None
        self._listener: Listener | None = None
        self._path = path
        self._clock = clock
        # What backs up in a thread writes here too.
        self._lock = threading.RLock()
        if path is None:
            return
        try:
            found = self._open(path)
        except (OSError, ValueError) as error:
            self._give_up(getattr(error, "strerror", None) or str(error))
            return
        if found.pid not in (0, os.getpid()):
            self._map = None
            return
        self._begin(found)

    @property
    def is_open(self) -> bool:
        """Whether anybody sees what is written."""
        return self._map is not None

    @property
    def name(self) -> str:
        """What its launcher calls the workers started together.

        Nothing where this worker's launcher does not see the board.
        """
        if self._path is None or self._map is None:
            return ""
        return os.path.basename(os.path.dirname(self._path))

    @property
    def standing(self) -> Standing | None:
        """Where this worker stands; `None` where nothing is written."""
        return None if self._map is None else layout.newest(self._map[:])

    def keep(self, begun: float) -> None:
        """Writes to memory of this process, where there is no file.

        Args:
            begun: Since when the state is what it is.
        """
        if self._map is not None:
            return
        self._path = None
        self._map = mmap.mmap(-1, layout.LENGTH)
        found = Standing(state=self.state, since=begun, changed=begun)
        self._map[:] = layout.blank(found)
        self._begin(found)

    def now(self) -> float:
        """Returns the time by which all is noted."""
        return self._clock()

    def watch(self, listener: Listener | None) -> None:
        """Has a function called at the end of each state.

        Args:
            listener: Called with the state, what it has waited for, when it
                began and when it ended; `None` for none from now on.
        """
        self._listener = listener

    def tell_log(self, path: str) -> None:
        """Tells the launcher where this worker logs its run.

        Args:
            path: The file.
        """
        if self._path is None or self._map is None:
            return
        with (
            contextlib.suppress(OSError),
            open(self._path + LOGS, "a", encoding="utf-8") as file,
        ):
            file.write(json.dumps(os.path.abspath(path)) + "\n")

    def note(
        self,
        state: State | None = None,
        waits_for: str = "",
        *,
        epoch: int | None = None,
        update: int | None = None,
        step: int | None = None,
        samples: int | None = None,
        backup: int | None = None,
        goal: int | None = None,
        made: int = 0,
    ) -> None:
        """Writes what has changed; all else stays.

        Args:
            state: What this worker is doing now.
            waits_for: What it waits for then; only with a state.
            epoch: Index of the epoch, -1 outside of a `fit`.
            update: Updates that the weights have seen.
            step: Steps begun in this process.
            samples: Samples that this process has trained on.
            backup: The update of the last backup.
            goal: The update at which the `fit` ends; -1 where not known.
            made: Updates that have just ended.
        """
        if self._map is None:
            return
        with self._lock:
            now = self._clock()
            if state is not None:
                self._enter(state, waits_for, now)
            if epoch is not None:
                self._epoch = epoch
                self._stacks_signal = still_offered(self._stacks_signal)
            if update is not None:
                self._update = update
            if step is not None:
                self._step = step
            if samples is not None:
                self._samples = samples
            if backup is not None:
                self._backup = backup
            if goal is not None:
                self._goal = goal
            if made > 0:
                self._made += made
                self._updated = now
            self._write(now)

    def trace(self) -> None:
        """Notes that a step of a `fit` is made into a graph."""
        if self.state in _STEPS:
            self.note(State.TRACING)

    def waiting(self, what: str) -> contextlib.AbstractContextManager[None]:
        """Notes that this worker waits, until the block ends.

        In a block of another such one, which says more, nothing.

        Args:
            what: For what, in words that follow "waits for".
        """
        if self._map is None or self.state is State.WAITING:
            return contextlib.nullcontext()
        return self.during(State.WAITING, what)

    @contextlib.contextmanager
    def during(self, state: State, waits_for: str = "") -> Iterator[None]:
        """Notes a state, and the one before when the block ends.

        Args:
            state: What this worker is doing meanwhile.
            waits_for: What it waits for then.
        """
        before = self.state, self._words
        self.note(state, waits_for)
        try:
            yield
        finally:
            if self.state is state:
                self.note(before[0], before[1].decode(errors="ignore"))

    def _enter(self, state: State, waits_for: str, now: float) -> None:
        if state is not self.state:
            self._spent[self.state] += now - self._since
            if self._listener is not None:
                words = self._words.decode(errors="ignore")
                self._listener(self.state, words, self._since, now)
            self._since = now
            self.state = state
        self._words = waits_for.encode()[:128] if waits_for else b""

    def _write(self, now: float) -> None:
        if self._map is None:
            return
        self._sequence += 1
        try:
            self._map[layout.place(self._sequence)] = packed(
                self._sequence,
                self._pid,
                self.state,
                self._stacks_signal,
                self._epoch,
                self._update,
                self._made,
                self._step,
                self._samples,
                self._backup,
                self._goal,
                self._since,
                now,
                self._updated,
                *self._spent,
                self._words,
            )
        except Exception as error:
            # Whatever it is, it must not end a training.
            self._give_up(str(error))

    def _open(self, path: str) -> Standing:
        with open(path, "r+b") as file:
            flaw = layout.flaw(file.read())
            if flaw:
                raise ValueError(flaw)
            self._map = mmap.mmap(file.fileno(), layout.LENGTH)
        found = layout.newest(self._map[:])
        if found is None:
            raise ValueError("nothing whole in it")
        return found

    def _begin(self, found: Standing) -> None:
        self._pid = os.getpid()
        self._sequence = found.sequence
        self._epoch = self._update = self._samples = self._backup = -1
        self._goal = -1
        self._since = found.since
        self._spent = list(found.spent)
        if self._path is not None:
            self._stacks_signal = offer_stacks(self._path + SUFFIX)
        # A child has the same memory.
        os.register_at_fork(after_in_child=self._leave)
        self.note(self.state)

    def _leave(self) -> None:
        self._map = None
        self._lock = threading.RLock()

    def _give_up(self, why: str) -> None:
        self._map = None
        # Nobody may be there to be told.
        with contextlib.suppress(OSError):
            print(
                f"The launcher does not see where this worker stands ({why}). "
                "The training goes on all the same.",
                file=sys.stderr,
                flush=True,
            )


@functools.cache
def own_board() -> Board:
    """Returns the board of this process, as the variable `TFDP_BOARD` says.

    Without one nothing is written, unless `keep` says so.

    Example:

    >>> own_board() is own_board()
    True
    """
    return Board(board_file())
