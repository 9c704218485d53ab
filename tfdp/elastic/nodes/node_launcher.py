"""The launcher of one machine of an elastic job: led, or leading."""

import contextlib
import math
import time
from collections.abc import Callable
from typing import Any

from tfdp.elastic import Slots
from tfdp.elastic.nodes.leading_launcher import Deposed, LeadingLauncher
from tfdp.elastic.nodes.led_group import LedGroup
from tfdp.elastic.nodes.orders import Order, Report
from tfdp.elastic.nodes.peer import Peer
from tfdp.elastic.nodes.post import Post, Refused
from tfdp.elastic.nodes.roster import Roster
from tfdp.elastic.nodes.spread_group import SpreadGroup
from tfdp.launching.worker_failure import signal_name
from tfdp.machine import ending_signals

_POLL_SECONDS = 0.05
# Launchers that start at about the same time see each other within these.
_ALONE_SECONDS = 2.0
# A launcher that was killed may still seem to be there.
_BUSY_SECONDS = 15.0


class NodeLauncher:
    """Finds who leads, and runs this machine's workers to the job's end.

    The launcher with the smallest rank of those that are there leads; when it
    is lost, the next one does. One that is told to end (SIGTERM, SIGINT) leaves
    the job, whose workers save a backup before they go on without it; told
    again, its workers are killed.

    Args:
        start_group: Called as `start_group(restart_count, kind=..., ...)` with
            `SpreadGroup` or `LedGroup` and what these take; returns a new one.
        post: Where launchers find each other.
        roster: Who they are.
        slots: Called for new slots of all machines.
        say: Called with each message to the user.
        max_restarts: How often workers may fall under who leads. Defaults to
            100.
        timeout: Seconds after which to end the job, where this one leads.
            Defaults to `None`, no limit.
        start_seconds: How long to wait for others. Defaults to 600.

    Raises:
        Refused: From `run`, if others refuse this launcher.
        TimeoutError: From `run`, if too few come in time.
        OSError: From `run`, if a worker cannot be started.
    """

    def __init__(
        self,
        start_group: Callable[..., Any],
        *,
        post: Post,
        roster: Roster,
        slots: Callable[[], Slots],
        say: Callable[[str], object],
        max_restarts: int = 100,
        timeout: float | None = None,
        start_seconds: float = 600.0,
    ) -> None:
        """Starts nothing yet."""
        self._start_group = start_group
        self._post = post
        self._roster = roster
        self._slots = slots
        self._say = say
        self._max_restarts = max_restarts
        self._deadline = math.inf
        if timeout is not None:
            self._deadline = time.monotonic() + timeout
        self._start_seconds = start_seconds
        self._signal = 0
        self._group: LedGroup | None = None
        self._has_met = False

    def run(self) -> int:
        """Runs the workers until the job is over, or this machine leaves it.

        Returns:
            The exit code of the job, the same on all machines; after a signal
            to this process 128 plus its number; 124 after `timeout`.
        """
        code: int | None = None
        with ending_signals(self._handle):
            while code is None:
                leader = self._found()
                if self._signal:
                    break
                code = self._lead() if leader is None else self._follow(leader)
        return 128 + self._signal if code is None else code

    def _found(self) -> Peer | None:
        """Returns who leads; `None` if this launcher is to, or to end."""
        post = self._post
        post.look_at(self._roster.others)
        began = time.monotonic()
        alone_since: float | None = None
        busy = ""
        while not self._signal:
            now = time.monotonic()
            seen = dict(post.seen)
            leaders = [r for r, leader in seen.items() if leader == r]
            if leaders:
                try:
                    peer = post.join(min(leaders))
                except ConnectionError as error:
                    busy = str(error)
                else:
                    self._has_met = True
                    post.look_at([])
                    return peer
            if post.rounds and not leaders:
                self._check_others()
            is_first = all(rank > self._roster.rank for rank in seen)
            if leaders or not (is_first and post.rounds):
                alone_since = None
            elif alone_since is None:
                alone_since = now
            has_smaller = self._roster.rank > 0
            if alone_since is not None and (
                now - alone_since >= _ALONE_SECONDS * has_smaller
            ):
                return None
            if leaders and now - began > _BUSY_SECONDS:
                raise Refused(
                    "Every launcher of a job must have a rank of its own. "
                    f"Received: {busy}. Give this one another --node-rank."
                )
            time.sleep(_POLL_SECONDS)
        return None

    def _check_others(self) -> None:
        if self._post.refusals:
            raise Refused(min(self._post.refusals.items())[1])
        if self._has_met or not self._post.others:
            return
        rank, why = min(self._post.others.items())
        raise Refused(
            "Launchers at the addresses of --nodes must be of one job. "
            f"Received: {self._roster.addresses[rank]}, where {why}, or one "
            "that was given other --nodes, another script or TFDP_JOB_SECRET. "
            "Take other ports for another job, or give all of them the same."
        )

    def _lead(self) -> int | None:
        """Leads until the job is over; `None` once another is to lead."""
        post, own = self._post, self._roster.rank
        post.leader = own
        left = None
        if self._deadline < math.inf:
            left = max(self._deadline - time.monotonic(), 0.01)
        launcher = LeadingLauncher(
            self._started_spread,
            slots=self._slots(),
            post=post,
            roster=self._roster,
            start_seconds=self._start_seconds,
            max_restarts=self._max_restarts,
            timeout=left,
            say=self._say,
        )
        try:
            code = launcher.run()
        except Deposed:
            self._say("a launcher of a smaller rank leads from now on")
            return None
        except BaseException:
            self._dismiss(1)
            raise
        else:
            if not launcher.was_signalled:
                self._dismiss(code)
            return code
        finally:
            post.leader = None
            if not post.is_over:
                post.hang_up()

    def _dismiss(self, exit_code: int) -> None:
        """Tells all others that the job is over."""
        self._post.is_over = True
        for peer in self._post.members.values():
            peer.tell(**Order(exit_code=exit_code).as_fields())

    def _started_spread(self, restart_count: int, **kwargs: Any) -> Any:
        return self._start_group(restart_count, kind=SpreadGroup, **kwargs)

    def _follow(self, leader: Peer) -> int | None:
        """Does what another says to the end; `None` once it is gone."""
        name = f"node {leader.rank} ({self._roster.addresses[leader.rank]})"
        self._say(f"{name} leads")
        self._post.leader = leader.rank
        attempt = 0
        try:
            while True:
                order = Order.of(leader.heard)
                here = self._roster.own(order.slots)
                if order.exit_code is not None:
                    return order.exit_code
                if self._signal or leader.gone:
                    break
                if order.attempt > attempt and here:
                    attempt = order.attempt
                    if order.kills:
                        # It has ended before it began here.
                        leader.tell(**Report(attempt).as_fields())
                    else:
                        self._attempt(leader, order, here)
                time.sleep(_POLL_SECONDS)
        finally:
            self._post.leader = None
            leader.leave()
        if not self._signal:
            self._say(f"{name} {leader.gone}")
        return None

    def _attempt(self, leader: Peer, order: Order, here: range) -> None:
        self._post.begun = order.restart_count + 1
        with self._start_group(
            order.restart_count,
            kind=LedGroup,
            num_workers=len(here),
            addresses=self._roster.worker_addresses(order.slots),
            first_index=here.start,
            leader=leader,
            attempt=order.attempt,
        ) as group:
            self._group = group
            group.leaves = bool(self._signal)
            failure = group.wait()
            self._group = None
        if failure is not None and not order.signal:
            self._say(str(failure))

    def _handle(self, number: int, frame: Any) -> None:
        is_first = not self._signal
        self._signal = self._signal or number
        if self._group is None:
            return
        if not is_first:
            self._group.end(number)
            self._group.end(number)
            return
        self._group.leaves = True
        with contextlib.suppress(RuntimeError, OSError):
            self._say(
                f"{signal_name(number)}: this machine leaves after a backup; a "
                "second signal kills its workers"
            )
