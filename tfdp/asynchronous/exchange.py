"""What a worker says to the server, as methods."""

import contextlib
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfdp.asynchronous.description import Description
from tfdp.asynchronous.gradients import Gradient, flattened
from tfdp.asynchronous.received import Spent, Weights
from tfdp.asynchronous.session import Interrupted, Session
from tfdp.asynchronous.staleness import Applied
from tfdp.asynchronous.state_exchange import StateExchange
from tfdp.asynchronous.wire.message import Message


class Exchange(StateExchange):
    """A worker's connection to the server; any thread may call the methods.

    A worker joins, and then repeats: `take` a batch, `read` weights unless it
    has, compute a gradient, `update`. Between, it holds a read, for which the
    others wait once they are at the bound: it must update, `skip` or `release`.
    Who waits for others (`average`, `vote`, `end`), or for a batch (`take`) and
    has none to train on, has its read released.

    While a method waits, others may be called from other threads, of another of
    these groups: `take` and `end_of_data`; `statistics`, `log` and `stop`; the
    rest.

    Args:
        address: `"host:port"` of the server.
        secret: That of the job.
        worker: Index of this worker; 0 is the chief.
        heartbeat_timeout: Seconds without a sign of life after which the
            server counts as lost. That it has ended is noticed at once.
        start_timeout: Seconds to wait for it to listen.

    Raises:
        ServerLost: If no server answers in that time.
        ValueError: If what answers knows another secret.
    """

    def __init__(
        self,
        address: str,
        secret: str,
        *,
        worker: int,
        heartbeat_timeout: float = 5.0,
        start_timeout: float = 600.0,
    ) -> None:
        self.worker = worker
        self._session = Session(
            address,
            secret,
            worker=worker,
            heartbeat_timeout=heartbeat_timeout,
            start_timeout=start_timeout,
        )
        self.ask = self._session.ask
        # The reads begun, and given back, by number.
        self._lock = threading.Lock()
        self._fit = self._read = self._released = 0
        self._has_joined = False
        # What was handed over, as digests.
        self.digests: dict[str, int] = {}
        self._spent = Spent()

    @property
    def failure(self) -> Exception | None:
        """The last error of a method, if any."""
        return self._session.failure

    @property
    def spent(self) -> Spent:
        """What reads, updates and skipped updates have taken so far."""
        with self._lock:
            return self._spent

    def join(
        self,
        description: Description,
        values: Sequence[np.ndarray],
        *,
        opens: bool = True,
    ) -> dict[str, Any]:
        """Takes part in the next `fit`; waits for the chief to begin it.

        The chief brings the weights of the first one, and of one that trains
        another model.

        Args:
            description: What this worker trains.
            values: Its initial weights, which count on the chief alone.
            opens: Whether others may take part as soon as the chief does,
                instead of when it calls `open`.

        Returns:
            Where training is: `"version"`, `"epoch"` (`None` before one has
            begun, unless `open` has said it), `"fit"`, how many have ended, and
            `"is_over"`, whether the one at hand has, as this worker comes late.

        Raises:
            ValueError: If the chief trains something else, or the server
                cannot make the optimizer.
        """
        model = description.fields
        if not self._has_joined:
            self.ask("join", worker=self.worker, model=model)
            self._has_joined = True
        answer = self.ask("begin", model=model, fit=self._fit, opens=opens)
        if answer.fields.get("needs_values"):
            answer = self.ask(
                "build", arrays=values, fit=self._fit, opens=opens
            )
        where = {k: answer.fields[k] for k in ("version", "epoch", "fit")}
        return {**where, "is_over": where["fit"] > self._fit}

    def open(self, epoch: int | None = None) -> None:
        """Lets others take part in the `fit`; for the chief.

        Args:
            epoch: Where they begin; `None` for where their programs say.
        """
        self.ask("open", fit=self._fit, epoch=epoch)

    def read(self) -> Weights | None:
        """Begins a gradient: waits for room, and returns the weights.

        Returns:
            The weights to take it at, or `None` if the last ones still are.
        """
        with self._lock:
            if self._read > self._released:
                return None
        return self._weights(self._ask_for_weights("read", fit=self._fit))

    def update(
        self,
        gradients: Sequence[Gradient],
        *,
        step: int,
        epoch: int | None = None,
        batches: Sequence[int] = (),
        then_read: bool = False,
    ) -> Weights:
        """Sends a gradient; waits until it is applied.

        Args:
            gradients: Of each variable, in its dtype: all of it, or `Rows`;
                `None` where the loss does not depend on it.
            step: Number of the update among this worker's, for the log.
            epoch: The epoch, where batches are taken from the queue.
            batches: The numbers of those that the gradient is of.
            then_read: Whether to begin the next gradient at once, which
                saves a message and lets others wait for this one earlier.

        Returns:
            The newest weights, this update included.
        """
        kinds, arrays = flattened(gradients)
        answer = self._ask_for_weights(
            "update",
            arrays=arrays,
            kinds=kinds,
            step=step,
            epoch=epoch,
            numbers=list(batches),
            then_read=then_read,
        )
        self._released_all()
        return self._weights(answer)

    def skip(
        self,
        *,
        epoch: int | None = None,
        batches: Sequence[int] = (),
        then_read: bool = False,
    ) -> Weights:
        """Makes no update of a gradient that is not finite.

        Args:
            epoch: As for `update`.
            batches: As for `update`; they are done.
            then_read: As for `update`.

        Returns:
            The newest weights.
        """
        answer = self._ask_for_weights(
            "skip", epoch=epoch, numbers=list(batches), then_read=then_read
        )
        self._released_all()
        return self._weights(answer)

    def release(self) -> None:
        """Gives a read back that no update will follow, if there is one."""
        self.ask("release")
        self._released_all()

    def take(self, epoch: int, *, waits: bool = True) -> int | None:
        """Returns the number of the next batch, or `None` at the end.

        It waits where others have what is left, which may come to this worker
        if they are lost. All get `None` when all batches are done.

        The chief opens an epoch: others wait until it has asked.

        Args:
            epoch: Number of the epoch, in this `fit`.
            waits: Whether to wait, rather than have none now.
        """
        try:
            answer = self.ask("take", epoch=epoch, fit=self._fit, waits=waits)
        except Interrupted:
            return None
        with self._lock:
            released = answer.fields["released"]
            self._released = max(self._released, released)
        return answer.fields["number"]

    def give_up(self, epoch: int, number: int) -> None:
        """Says that a batch that was taken will be trained on by nobody.

        Args:
            epoch: Number of the epoch.
            number: That of the batch.
        """
        with contextlib.suppress(Interrupted):
            self.ask("give_up", epoch=epoch, numbers=[number])

    def interrupt(self, *, is_on: bool) -> None:
        """Has `take` return `None` at once, also one that waits.

        Args:
            is_on: Whether to, from now on.
        """
        self._session.interrupt("batches", is_on=is_on)

    def end_of_data(self, epoch: int, total: int) -> None:
        """Says that an epoch has so many batches; what is beyond is nobody's.

        Args:
            epoch: Number of the epoch.
            total: Its batches, of all workers together.

        Raises:
            ValueError: If another worker has said something else.
        """
        with contextlib.suppress(Interrupted):
            self.ask("end_of_data", epoch=epoch, total=total)

    def average(
        self, epoch: int, values: Sequence[np.ndarray], *, samples: float
    ) -> list[np.ndarray]:
        """Waits for all that live, and returns the mean of what they have.

        Args:
            epoch: Number of the epoch.
            values: Of the description's statistics.
            samples: How many this worker has trained on, its weight.
        """
        answer = self.ask(
            "average",
            arrays=values,
            samples=samples,
            epoch=epoch,
            fit=self._fit,
        )
        self._released_all()
        return list(answer.arrays)

    def stop(self) -> None:
        """Ends the epoch for all, as it is: there is no next batch.

        May be called while another method waits.
        """
        self.ask("stop", fit=self._fit)

    def vote(self, epoch: int, *, stops: bool) -> bool:
        """Waits for all that live; returns whether one of them stops.

        Args:
            epoch: Number of the epoch that has ended.
            stops: Whether this one does.
        """
        answer = self.ask("vote", epoch=epoch, fit=self._fit, stops=stops)
        self._released_all()
        return answer.fields["stops"]

    def statistics(self) -> dict[str, Any]:
        """Returns what a monitor shows.

        By worker, whose index is text: `"staleness"`, how many updates were
        how stale; `"updates"`; `"skipped"`; `"waited"`, seconds for room to
        `"read"` and to `"update"`; `"computed"`, seconds from reads to
        their updates without that; `"lost"`, and why. Also `"version"`,
        `"max_staleness"`, `"living"`, and `"learning_rates"` that were set,
        with their versions.
        """
        return self.ask("statistics").fields["statistics"]

    def log(self) -> list[Applied]:
        """Returns all updates, in the order in which they were applied."""
        (log,) = self.ask("log").arrays
        return [Applied(*row) for row in log.tolist()]

    def abandon(self) -> None:
        """Leaves a `fit` that an error or an interrupt has ended here.

        The others go on without this worker; where it is the chief, the fit
        ends for all. May be called while another method waits, which then
        raises.
        """
        self.ask("abandon", fit=self._fit)
        self._released_all()
        self._fit += 1
        self.digests = {}

    def end(self) -> Weights:
        """Ends a `fit`: waits for all that live, and returns the last weights.

        They are what Keras would leave: averages of weights, if the optimizer
        keeps them.
        """
        weights = self._weights(self.ask("end", fit=self._fit))
        self._released_all()
        self._fit += 1
        self.digests = {}
        return weights

    def close(self) -> None:
        """Leaves, for good; the chief's leaving ends all. Not waited for."""
        self._session.close()

    def _ask_for_weights(self, kind: str, **fields: Any) -> Message:
        begin = time.monotonic()
        answer = self.ask(kind, **fields)
        seconds = time.monotonic() - begin
        with self._lock:
            self._spent = Spent(
                self._spent.exchanging + seconds, answer.fields["waited"]
            )
        return answer

    def _weights(self, answer: Message) -> Weights:
        with self._lock:
            self._read = max(self._read, answer.fields["read"])
        return Weights(answer.fields["version"], list(answer.arrays))

    def _released_all(self) -> None:
        # The answer to what has released them may begin the next one.
        with self._lock:
            self._released = max(self._released, self._read)
