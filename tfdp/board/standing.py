"""Where a worker stands, as what a board holds of it."""

import dataclasses
import enum
import struct
import zlib

_FORMAT = "<QiBBxxiqqqqqqddd"
# More states may come; a board has room for them.
_STATES = 16
_WORDS = 128
_RECORD = struct.Struct(f"{_FORMAT}{_STATES}d{_WORDS}s")
_CHECK = struct.Struct("<I")
SIZE = _RECORD.size + _CHECK.size


class State(enum.IntEnum):
    """What a worker is doing; all but the first two and `ENDED` are of a `fit`.

    `STARTING` is all that a program does before its first `fit`, but for
    meeting the other workers, and `ENDED` all that comes after one. `PAUSE` is
    between epochs, `FIRST_STEP` the first step of one, which may wait long for
    its data; `TRACING` a step for which a graph is made; `CALLBACKS` what
    callbacks do after a step; `REPLAYING` passing over what was trained on
    before the program was started again. `WAITING` is for what all workers do
    together outside of steps, as a vote.
    """

    STARTING = 0
    MEETING = 1
    PAUSE = 2
    TRACING = 3
    TRAINING = 4
    CALLBACKS = 5
    WAITING = 6
    VALIDATING = 7
    SAVING = 8
    ENDED = 9
    FIRST_STEP = 10
    REPLAYING = 11


@dataclasses.dataclass(frozen=True)
class Standing:
    """What a board says. Times are of `time.monotonic`, in seconds.

    Attributes:
        pid: Process that writes it; 0 where none has yet.
        state: What it is doing.
        waits_for: What or whom it waits for; may be empty.
        stacks_signal: Signal that has it write down its stacks; 0 for none.
        epoch: Index of the epoch; -1 outside of a `fit`.
        update: Updates that the weights have seen, those of runs before
            included; -1 where that is not known.
        made: Updates that this process has made.
        step: Steps begun in this process.
        samples: Samples that this process has trained on; -1 where not known.
        backup: The update of the last backup; -1 for none.
        goal: Updates that the weights will have seen at the end of the `fit`,
            as far as it is known; else -1.
        since: When it has entered the state.
        changed: When anything was written here last.
        updated: When the last update ended; 0 where this process has made
            none.
        spent: Seconds in each state, by its number, without the present one.
        sequence: How often the board was written.

    Example:

    >>> standing = Standing(pid=7, state=State.TRAINING, update=36)
    >>> Standing.unpacked(standing.packed()) == standing
    True
    """

    pid: int = 0
    state: State = State.STARTING
    waits_for: str = ""
    stacks_signal: int = 0
    epoch: int = -1
    update: int = -1
    made: int = 0
    step: int = 0
    samples: int = -1
    backup: int = -1
    goal: int = -1
    since: float = 0.0
    changed: float = 0.0
    updated: float = 0.0
    spent: tuple[float, ...] = (0.0,) * _STATES
    sequence: int = 1

    @property
    def is_in_fit(self) -> bool:
        """Whether it trains by a `fit`."""
        return self.epoch >= 0

    def seconds_in(self, state: State, now: float) -> float:
        """Returns how long it has been in a state, all times together.

        Args:
            state: The state.
            now: The time.
        """
        present = now - self.since if self.since and state is self.state else 0
        return self.spent[state] + max(present, 0.0)

    @property
    def begun(self) -> float:
        """When the board was made."""
        return self.since - sum(self.spent)

    def seconds_until(self, stop: float) -> dict[str, float]:
        """Returns how the time from `begun` to a moment was spent.

        What was noted after that moment is left out: of waiting and of steps
        first, as in them workers miss one that is lost.

        Args:
            stop: The moment.

        Returns:
            Seconds by the name of the state, in small letters; none is
            negative, and their sum is `stop - begun`.

        Example:

        >>> spent = (2.0, *[0.0] * 15)
        >>> standing = Standing(state=State.MEETING, since=12.0, spent=spent)
        >>> standing.seconds_until(15.0)
        {'starting': 2.0, 'meeting': 3.0}
        """
        spent = {state: self.seconds_in(state, stop) for state in State}
        excess = sum(spent.values()) - max(stop - self.begun, 0.0)
        for state in (State.WAITING, State.TRAINING, *State):
            taken = min(spent[state], max(excess, 0.0))
            spent[state] -= taken
            excess -= taken
        return {
            state.name.lower(): seconds
            for state, seconds in spent.items()
            if seconds > 0
        }

    def unfinished_at(self, moment: float) -> float:
        """Returns for how long a step has been under way.

        Args:
            moment: The time.
        """
        if self.state not in (State.TRAINING, State.FIRST_STEP):
            return 0.0
        return max(moment - self.since, 0.0)

    def packed(self) -> bytes:
        """Returns it as bytes, which tell whether all of them are there."""
        return packed(
            self.sequence,
            self.pid,
            self.state,
            self.stacks_signal,
            self.epoch,
            self.update,
            self.made,
            self.step,
            self.samples,
            self.backup,
            self.goal,
            self.since,
            self.changed,
            self.updated,
            *self.spent,
            self.waits_for.encode()[:_WORDS],
        )

    @classmethod
    def unpacked(cls, data: bytes) -> "Standing | None":
        """Returns what `packed` was called of; `None` for anything else.

        Args:
            data: The bytes.
        """
        if len(data) != SIZE:
            return None
        body = data[: _RECORD.size]
        if _CHECK.unpack(data[_RECORD.size :]) != (zlib.crc32(body),):
            return None
        fields = _RECORD.unpack(body)
        sequence, pid, state, stacks_signal, *counts = fields[:11]
        if state >= len(State):
            return None
        epoch, update, made, step, samples, backup, goal = counts
        since, changed, updated, *spent = fields[11:-1]
        return cls(
            pid=pid,
            state=State(state),
            waits_for=fields[-1].rstrip(b"\0").decode(errors="ignore"),
            stacks_signal=stacks_signal,
            epoch=epoch,
            update=update,
            made=made,
            step=step,
            samples=samples,
            backup=backup,
            goal=goal,
            since=since,
            changed=changed,
            updated=updated,
            spent=tuple(spent),
            sequence=sequence,
        )


def packed(*fields: object) -> bytes:
    """Returns the fields of a standing as `Standing.packed` does.

    Args:
        *fields: In the order of the file; what it waits for as bytes, last.
    """
    body = _RECORD.pack(*fields)
    return body + _CHECK.pack(zlib.crc32(body))
