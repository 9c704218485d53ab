"""What the server and one worker say to each other."""

import collections
import queue
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tfdp.asynchronous.batch_queue import Batches
from tfdp.asynchronous.description import Description
from tfdp.asynchronous.gradients import restored
from tfdp.asynchronous.serving.served_model import Weights
from tfdp.asynchronous.serving.training import CHIEF, Broken, Training
from tfdp.asynchronous.staleness import Lost
from tfdp.asynchronous.wire.connection import Connection, Ended
from tfdp.asynchronous.wire.message import Message, Refused, shown

# What a worker waits for at a time: a step, a batch ahead of it, a figure.
LANES = {
    **dict.fromkeys(("take", "end_of_data", "give_up"), "batches"),
    **dict.fromkeys(("statistics", "log", "stop", "abandon"), "figures"),
    **dict.fromkeys(
        (
            "join",
            "begin",
            "build",
            "open",
            "expect",
            "hand_over",
            "handed",
            "read",
            "update",
            "skip",
            "release",
            "average",
            "vote",
            "end",
            "set_learning_rate",
            "save",
            "load",
        ),
        "steps",
    ),
}
_OF_THE_CHIEF = (
    "build",
    "open",
    "expect",
    "hand_over",
    "set_learning_rate",
    "load",
)
# A queue, and room for the names of a state.
_MARGIN = 2**20
# Questions of a lane; more than one only where a worker was interrupted.
_MOST_WAITING = 8
_TOLD = (ValueError, TypeError, RuntimeError)


class Conversation:
    """Answers one worker, whose messages come over one connection.

    A thread reads, so that it is noticed at once when the worker is gone,
    whatever it waits for; one thread for each lane answers.

    Args:
        connection: Where the worker is.
        training: What it takes part in.
        arrive: Called with the worker's index, before it joins.
        leave: Called with why, when it is gone.
        fail: Called with why, when nobody can train on.
    """

    def __init__(
        self,
        connection: Connection,
        training: Training,
        *,
        arrive: Callable[["Conversation", int], object],
        leave: Callable[["Conversation", str], object],
        fail: Callable[[str], object],
    ) -> None:
        self.worker: int | None = None
        self._connection, self._training = connection, training
        self._arrive, self._leave, self._fail = arrive, leave, fail
        self._description: Description | None = None
        self._lanes: dict[str, queue.SimpleQueue[Message | None]] = {}
        self._waiting: collections.Counter[str] = collections.Counter()

    def run(self) -> None:
        """Reads until the worker is gone."""
        for name in sorted(set(LANES.values())):
            lane = self._lanes[name] = queue.SimpleQueue()
            threading.Thread(
                target=self._answer, args=(name, lane), daemon=True
            ).start()
        why = ""
        try:
            while not why:
                why = self._take_in(self._connection.receive())
        except Ended as error:
            why = str(error)
        except Refused as error:
            why = f"refused: {error}"
        finally:
            for lane in self._lanes.values():
                lane.put(None)
            self._leave(self, why)
            self._connection.close()

    def tell(self, why: str) -> None:
        """Tells the worker that all is over for it, and why."""
        try:
            self._connection.send(Message("over", {"why": why}))
        except Ended:
            return
        finally:
            self._connection.close()

    def _take_in(self, message: Message) -> str:
        if message.kind == "pulse":
            self._connection.send(Message("pulse", {}))
            return ""
        if message.kind == "bye":
            return "it has left"
        lane = LANES.get(message.kind)
        if lane is None or self._waiting[lane] >= _MOST_WAITING:
            raise Refused(f"it asks for {shown(message.kind)}, and may not now")
        if message.kind == "join":
            self._introduce(message)
        elif self.worker is None:
            raise Refused(f"it asks for {message.kind!r} before it has joined")
        self._waiting[lane] += 1
        self._lanes[lane].put(message)
        return ""

    def _introduce(self, message: Message) -> None:
        worker = message.fields.get("worker")
        if self.worker is not None or type(worker) is not int or worker < 0:
            raise Refused(f"it joins as worker {shown(str(worker))}")
        self._describe(message)
        self.worker = worker
        self._arrive(self, worker)

    def _describe(self, message: Message) -> Description:
        try:
            description = Description.from_fields(message.fields["model"])
        except (ValueError, KeyError) as error:
            raise Refused(str(error)) from None
        self._description = description
        # From now on as much as its variables take, and not a byte more.
        self._connection.most_bytes = max(
            self._connection.most_bytes, description.bytes
        )
        return description

    def _answer(
        self, name: str, lane: "queue.SimpleQueue[Message | None]"
    ) -> None:
        while (message := lane.get()) is not None:
            try:
                answer = getattr(self, f"_{message.kind}")(message)
            except Lost:
                # It has left a fit, or is gone, and waits for this no more.
                answer = Message("error", {"type": "", "text": "It was left."})
            except Broken as error:
                self._fail(f"an update has failed: {error}")
                return
            except _TOLD as error:
                kind = next(k for k in _TOLD if isinstance(error, k)).__name__
                answer = Message("error", {"type": kind, "text": str(error)})
            except KeyError as error:
                answer = Message(
                    "error",
                    {"type": "ValueError", "text": f"It must say {error}."},
                )
            except Exception as error:
                self._fail(f"{type(error).__name__}: {error}")
                return
            question = message.fields.get("question")
            fields = {**answer.fields, "lane": name, "question": question}
            self._waiting[name] -= 1
            try:
                self._connection.send(
                    Message(answer.kind, fields, answer.arrays)
                )
            except Ended:
                # Wakes who reads.
                self._connection.close()
                return

    def _join(self, message: Message) -> Message:
        self._training.join(self._me)
        return _answered()

    def _begin(self, message: Message) -> Message:
        worker, description = self._me, self._describe(message)
        if worker == CHIEF and not self._training.trains(description):
            return _answered(needs_values=True)
        return self._begun(worker, description, message.fields)

    def _build(self, message: Message) -> Message:
        worker, description = self._known("build")
        self._training.build(description, message.arrays)
        return self._begun(worker, description, message.fields)

    def _begun(
        self, worker: int, description: Description, fields: Mapping[str, Any]
    ) -> Message:
        where = self._training.begin(
            worker,
            description,
            fit=int(fields["fit"]),
            opens=bool(fields["opens"]),
        )
        self._connection.most_bytes = max(
            description.bytes, self._training.model.state_bytes + _MARGIN
        )
        return _answered(**where)

    def _open(self, message: Message) -> Message:
        self._known("open")
        epoch = message.fields["epoch"]
        self._training.fits.open(
            int(message.fields["fit"]), None if epoch is None else int(epoch)
        )
        return _answered()

    def _expect(self, message: Message) -> Message:
        # Who says how much is to come may send no more than that.
        self._known("expect")
        self._connection.most_bytes = max(
            self._connection.most_bytes, int(message.fields["bytes"]) + _MARGIN
        )
        return _answered()

    def _hand_over(self, message: Message) -> Message:
        self._known("hand_over")
        fields = message.fields
        changed = dict(zip(fields["names"], message.arrays, strict=True))
        self._training.fits.hand_over(changed, fields["all"])
        return _answered()

    def _handed(self, message: Message) -> Message:
        return _of_state(self._training.fits.handed)

    def _read(self, message: Message) -> Message:
        fit = int(message.fields["fit"])
        return self._weights(self._training.read(self._me, fit=fit))

    def _update(self, message: Message) -> Message:
        fields = message.fields
        gradients = restored(fields["kinds"], message.arrays)
        return self._weights(
            self._training.update(
                self._me,
                gradients,
                step=int(fields["step"]),
                batches=_batches(fields),
                then_read=bool(fields["then_read"]),
            )
        )

    def _skip(self, message: Message) -> Message:
        return self._weights(
            self._training.skip(
                self._me,
                batches=_batches(message.fields),
                then_read=bool(message.fields["then_read"]),
            )
        )

    def _release(self, message: Message) -> Message:
        self._training.release(self._me)
        return _answered()

    def _take(self, message: Message) -> Message:
        number, released = self._training.take(
            self._me,
            epoch=int(message.fields["epoch"]),
            fit=int(message.fields["fit"]),
            waits=bool(message.fields["waits"]),
        )
        return _answered(number=number, released=released)

    def _end_of_data(self, message: Message) -> Message:
        self._training.queue.end_of_data(
            self._me,
            epoch=int(message.fields["epoch"]),
            total=int(message.fields["total"]),
        )
        return _answered()

    def _give_up(self, message: Message) -> Message:
        batches = _batches(message.fields)
        self._training.give_up(self._me, batches=batches)
        return _answered()

    def _average(self, message: Message) -> Message:
        fields = message.fields
        values = self._training.average(
            self._me,
            message.arrays,
            samples=float(fields["samples"]),
            meeting=(int(fields["fit"]), int(fields["epoch"])),
        )
        return Message("answer", {}, values)

    def _stop(self, message: Message) -> Message:
        self._training.stop(fit=int(message.fields["fit"]))
        return _answered()

    def _abandon(self, message: Message) -> Message:
        self._training.abandon(self._me, fit=int(message.fields["fit"]))
        return _answered()

    def _vote(self, message: Message) -> Message:
        fields = message.fields
        stops = self._training.vote(
            self._me,
            stops=bool(fields["stops"]),
            meeting=(int(fields["fit"]), int(fields["epoch"])),
        )
        return _answered(stops=stops)

    def _end(self, message: Message) -> Message:
        fit = int(message.fields["fit"])
        return self._weights(self._training.end(self._me, fit=fit))

    def _weights(self, weights: Weights) -> Message:
        fields = {
            "version": weights.version,
            "read": weights.read,
            "waited": self._training.staleness.waited_by(self._me),
        }
        return Message("answer", fields, weights.values)

    def _set_learning_rate(self, message: Message) -> Message:
        self._known("set_learning_rate")
        self._training.set_learning_rate(float(message.fields["rate"]))
        return _answered()

    def _save(self, message: Message) -> Message:
        return _of_state(self._training.state())

    def _load(self, message: Message) -> Message:
        self._known("load")
        names = message.fields["names"]
        self._training.load(dict(zip(names, message.arrays, strict=True)))
        return _answered()

    def _statistics(self, message: Message) -> Message:
        return _answered(statistics=self._training.statistics())

    def _log(self, message: Message) -> Message:
        log = np.array(self._training.staleness.log, "int64").reshape(-1, 4)
        return Message("answer", {}, [log])

    @property
    def _me(self) -> int:
        return self._known("read")[0]

    def _known(self, kind: str) -> tuple[int, Description]:
        """Returns who asks, and checks that it may."""
        if self.worker is None or self._description is None:
            raise ValueError(
                f"A worker must join before it asks. Received: {kind!r}. Join "
                "first."
            )
        if kind in _OF_THE_CHIEF and self.worker != CHIEF:
            raise ValueError(
                f"Only the chief may ask for {kind!r}. Received: worker "
                f"{self.worker}. Leave it to worker {CHIEF}."
            )
        return self.worker, self._description


def _answered(**fields: Any) -> Message:
    return Message("answer", fields)


def _of_state(state: Mapping[str, np.ndarray]) -> Message:
    return Message("answer", {"names": list(state)}, list(state.values()))


def _batches(fields: Mapping[str, Any]) -> Batches:
    epoch = fields.get("epoch")
    if epoch is None:
        return Batches()
    return Batches(int(epoch), tuple(map(int, fields["numbers"])))
