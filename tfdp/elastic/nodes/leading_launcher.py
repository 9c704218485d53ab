"""The launcher of a job that tells those of other machines what to do."""

import math
from typing import Any

from tfdp.elastic import ElasticGroup, ElasticLauncher
from tfdp.elastic.nodes.orders import Report
from tfdp.elastic.nodes.peer import Peer
from tfdp.elastic.nodes.post import Post
from tfdp.elastic.nodes.roster import Roster
from tfdp.launching import WorkerGroup


class Deposed(Exception):
    """A launcher of a smaller rank is there, which is to lead."""


class LeadingLauncher(ElasticLauncher):
    """Goes on with the machines that are left, and with more when there are.

    Args:
        start_group: Called as `start_group(restart_count, num_workers=...,
            addresses=..., first_index=..., could_grow=..., members=...,
            names=..., attempt=..., slots=...)`; returns a new `SpreadGroup`.
        post: Where other launchers join; this one leads there.
        roster: Who they are.
        start_seconds: How long to wait for enough workers.
        **kwargs: As for `ElasticLauncher`.

    Raises:
        Deposed: From `run`, between two attempts, if another one is to lead.
        TimeoutError: From `run`, if there are too few workers for so long.
        Exception: As for `ElasticLauncher`.
    """

    def __init__(
        self,
        *args: Any,
        post: Post,
        roster: Roster,
        start_seconds: float,
        **kwargs: Any,
    ) -> None:
        """Starts nothing yet; nobody else is there."""
        super().__init__(*args, **kwargs)
        self._post = post
        self._roster = roster
        self._start_seconds = start_seconds
        self._waits_since: float | None = None
        self._told_of: set[int] = set()
        self._attempts = 0
        self._last_count = 0
        for rank in roster.others:
            self.slots.leave(roster.slots_of(rank))

    def plan(self, now: float) -> float:
        """Says who is waited for before the next attempt begins."""
        self._look()
        self._tell_who_is_away(now)
        return 0.0

    def holds_back(self, now: float) -> bool:
        """Whether more machines may still come in time, or have to."""
        self._look()
        if self._smaller:
            raise Deposed
        if self._waits_since is None:
            self._waits_since = now
            if not self._attempts:
                self._tell_who_is_away(now)
        begin = self.slots.begin_at(self._waits_since)
        waited = now - self._waits_since
        if begin == math.inf and waited > self._start_seconds:
            there = len(self.slots.ready(now))
            raise TimeoutError(
                f"At least {self.slots.least} workers must be there within "
                f"{self._start_seconds:g} seconds. Received: {there}, without "
                f"{self._away_words()}. Start the launchers of more machines, "
                "or let this one wait longer: --start-timeout SECONDS."
            )
        return now < begin

    def could_grow(self, now: float) -> bool:
        """Whether more workers are ready than train, or another is to lead."""
        self._look()
        return self._smaller or super().could_grow(now)

    def size_of(self, group: WorkerGroup) -> int:
        """Returns how many workers an attempt has, on all machines."""
        return len(self.used)

    def start(self, restart_count: int) -> ElasticGroup:
        """Starts the workers of an attempt, here and elsewhere."""
        self._waits_since = None
        if self._attempts:
            self.tell(len(self.used), self._last_count)
        self._last_count = len(self.used)
        self._attempts += 1
        begun, self._post.begun = self._post.begun, self._post.begun + 1
        here = self._roster.own(self.used)
        members = []
        for rank, peer in sorted(self._present().items()):
            theirs = self._roster.own(self.used, rank)
            if theirs:
                members.append((peer, theirs))
        return self.start_elastic(
            begun,
            num_workers=len(here),
            addresses=self._roster.worker_addresses(self.used),
            first_index=here.start,
            could_grow=self.could_grow,
            members=members,
            names={r: self._name(r) for r in self._roster.others},
            attempt=self._attempts,
            slots=self.used,
        )

    @property
    def _smaller(self) -> bool:
        """Whether a launcher of a smaller rank has joined, or leads."""
        own = self._roster.rank
        leads = any(leader == rank for rank, leader in self._post.seen.items())
        return leads or any(rank < own for rank in self._present())

    def _present(self) -> dict[int, Peer]:
        return {
            rank: peer
            for rank, peer in self._post.members.items()
            if not (peer.gone or Report.of(peer.heard).leaves)
        }

    def _look(self) -> None:
        """Takes note of machines that have come and gone."""
        present = self._present()
        for rank in self._roster.others:
            slots = self._roster.slots_of(rank)
            if rank not in present:
                self.slots.leave(slots)
                self._told_of.discard(rank)
            else:
                self.slots.come(slots)
                if rank not in self._told_of:
                    self._told_of.add(rank)
                    self.say(f"{self._name(rank)} is there")
        self._post.look_at(
            [r for r in range(self._roster.rank) if r not in present]
        )

    def _tell_who_is_away(self, now: float) -> None:
        away = self._away_words()
        if away:
            begin = self.slots.begin_at(now)
            most = self._start_seconds if begin == math.inf else begin - now
            self.say(f"waiting up to {most:.0f} s for {away}")

    def _away_words(self) -> str:
        present = self._present()
        return ", ".join(
            self._name(rank)[:1].lower() + self._name(rank)[1:]
            for rank in self._roster.others
            if rank not in present
        )

    def _name(self, rank: int) -> str:
        return f"Node {rank} ({self._roster.addresses[rank]})"
