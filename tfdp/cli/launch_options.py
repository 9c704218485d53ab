"""What `tfdp launch` was asked for, and whether it goes together."""

import contextlib
import dataclasses
import sys
from typing import cast

import click

from tfdp.cli.rendezvous import appointment_of
from tfdp.cli.worker_lines import say
from tfdp.cli.worker_range import Workers
from tfdp.cluster import Nodes
from tfdp.cluster.roll_call import Appointment
from tfdp.elastic import Slots
from tfdp.elastic.nodes import Roster
from tfdp.launching import SECRET, check_secret, worker_variables
from tfdp.machine import core_shares, is_of_this_machine
from tfdp.settings import start_timeout

# Of a job whose workers go on without each other, if nobody says how many.
_RESTARTS_ALONE = 3
# Of one in which there may be fewer.
_RESTARTS_OF_SLOTS = 100
_REJOIN_SECONDS = 30.0
_NOT_ISOLATED = (
    "--isolated is for workers of one machine. Received: --isolated and "
    "--nodes. Use --workers alone, or close the ports by a firewall."
)


@dataclasses.dataclass(frozen=True)
class LaunchOptions:
    """The options of the command, each under its name; see its help.

    Raises:
        click.UsageError: From each method, if options do not go together.
    """

    workers: Workers | None
    rejoin_seconds: float | None
    nodes: str | None
    node_rank: int | None
    rendezvous: str | None
    workers_total: int | None
    asynchronous: bool
    preload: bool | None
    isolated: bool
    cpus_per_worker: int | None
    variables: dict[str, str]
    log_dir: str | None
    verbose: bool
    plain: bool
    max_restarts: int | None
    start_timeout: float | None
    stall_seconds: float | None
    on_stall: str | None
    timeout: float | None
    grace_seconds: float
    script: str
    args: tuple[str, ...]

    def appointment(self) -> Appointment | None:
        """Returns where this launcher meets the others, if it is to."""
        return appointment_of(
            self.rendezvous,
            self.workers_total,
            self.workers.most if self.workers else None,
            self.script,
            apart={
                "--nodes": self.nodes is not None,
                "--isolated": self.isolated,
                "--asynchronous": self.asynchronous,
            },
        )

    def slots(self) -> Slots | None:
        """Returns the slots of workers, if there may be fewer and more."""
        workers = self.workers
        if workers is None or not workers.may_change:
            if self.rejoin_seconds is not None:
                raise click.UsageError(
                    "Who is left waits for others where there may be fewer. "
                    f"Received: --rejoin-seconds {self.rejoin_seconds:g} "
                    "without --workers MIN:MAX. Leave it out, or say with how "
                    "few workers training may go on."
                )
            return None
        for option, is_given in {
            "--rendezvous": self.rendezvous is not None,
            "--asynchronous": self.asynchronous,
        }.items():
            if is_given:
                raise click.UsageError(
                    "Workers become fewer and more on one machine or on "
                    "--nodes, where they wait for each other. Received: "
                    f"--workers {workers} and {option}. Give one number of "
                    "workers."
                )
        patience = self.rejoin_seconds
        return Slots(
            workers.least,
            workers.most,
            rejoin_seconds=_REJOIN_SECONDS if patience is None else patience,
        )

    def roster(self) -> Roster | None:
        """Returns who the machines are, if some of them may be missing."""
        nodes, rank, workers = self.nodes, self.node_rank, self.workers
        if nodes is None or rank is None or not self._may_change:
            return None
        workers = cast(Workers, workers)
        addresses = tuple(nodes.split(","))
        slots_per_node, rest = divmod(workers.most, len(addresses))
        if rest:
            raise click.UsageError(
                "All nodes have equally many workers; MIN:MAX are those of "
                f"all together. Received: --workers {workers} and "
                f"{len(addresses)} nodes. Use a MAX that they divide."
            )
        if self.isolated:
            raise click.UsageError(_NOT_ISOLATED)
        try:
            self._check_no_secret_is_shown()
            roster = Roster(addresses, rank, slots_per_node)
            check_secret(
                self.secret(),
                are_all_here=roster.is_local,
                who="Launchers that tell each other what to do",
            )
            roster.check_ports()
        except (ValueError, RuntimeError) as error:
            raise click.UsageError(str(error)) from error
        self._warn_of_another_machine(roster.address)
        return roster

    def secret(self) -> str:
        """Returns what workers of this job know; empty for nothing."""
        return {**worker_variables(), **self.variables}.get(SECRET, "")

    def place(self) -> Nodes | None:
        """Returns the place of this machine among others, if there are."""
        nodes, rank = self.nodes, self.node_rank
        if (nodes is None) != (rank is None):
            raise click.UsageError(
                "--nodes and --node-rank belong together. Received: "
                f"{'--nodes' if rank is None else '--node-rank'} only. Add "
                "the other, or leave out both for workers on one machine."
            )
        if nodes is None or rank is None:
            if self.workers is None and self.rendezvous is None:
                raise click.UsageError(
                    "Missing option '--workers' (or '--nodes' or "
                    "'--rendezvous', to join machines)."
                )
            return None
        count = self.workers.most if self.workers else 1
        try:
            place = Nodes(tuple(nodes.split(",")), rank, count)
        except ValueError as error:
            raise click.UsageError(str(error)) from error
        self._warn_of_another_machine(place.first_addresses[rank])
        return place

    def _warn_of_another_machine(self, address: str) -> None:
        host, _, _ = address.rpartition(":")
        if not is_of_this_machine(host):
            rule = f"--node-rank {self.node_rank} is {host}"
            say(f"Warning: {rule}, which does not look like this machine.")

    def most_restarts(self) -> int:
        """Returns how often workers may be started again."""
        if self.max_restarts is not None:
            return self.max_restarts
        if self.asynchronous:
            return _RESTARTS_ALONE
        return _RESTARTS_OF_SLOTS if self._may_change else 0

    def is_preloaded(self) -> bool:
        """Returns whether workers are forked."""
        if self.preload and self.cpus_per_worker is not None:
            raise click.UsageError(
                "Workers that are forked have the cores of the launcher. "
                f"Received: --preload and --cpus-per-worker "
                f"{self.cpus_per_worker}. Leave one of them out."
            )
        if self.preload is not None:
            return self.preload
        is_possible = sys.platform == "linux" and self.cpus_per_worker is None
        return self._may_change and is_possible

    @property
    def _may_change(self) -> bool:
        return self.workers is not None and self.workers.may_change

    def check(self, count: int, place: Nodes | None) -> None:
        """Checks what else does not go together.

        Args:
            count: Workers of this machine.
            place: Its place among others.

        Raises:
            ValueError: If options do not go together.
            RuntimeError: If this system cannot do what is asked for.
        """
        if self.start_timeout is not None:
            given = self.variables.get("TFDP_START_TIMEOUT")
            if given is not None:
                raise ValueError(
                    "The workers have one time to wait for each other. "
                    f"Received: --start-timeout {self.start_timeout:g} and "
                    f"--env TFDP_START_TIMEOUT={given}. Leave one of them out."
                )
        if self.cpus_per_worker is not None:
            core_shares(count, self.cpus_per_worker)
        if self.isolated and place:
            raise ValueError(_NOT_ISOLATED)
        if self.asynchronous:
            self._check_asynchronous(not place or len(place.addresses) == count)
        if place:
            place.check_ports()

    def _check_asynchronous(self, are_all_here: bool) -> None:
        if self.stall_seconds or self.on_stall:
            option = "--stall-seconds" if self.stall_seconds else "--on-stall"
            raise ValueError(
                "Workers of an asynchronous job do not wait for each other; "
                "the server gives up who hangs. Received: --asynchronous and "
                f"{option}. Leave it out."
            )
        self._check_no_secret_is_shown()
        secret = worker_variables().get(SECRET, "")
        check_secret(secret, are_all_here=are_all_here)

    def _check_no_secret_is_shown(self) -> None:
        if SECRET in self.variables:
            raise ValueError(
                "The secret of a job must not be an argument, which others on "
                f"this machine can read. Received: --env {SECRET}=(not shown). "
                "Leave it out: one is drawn, unless with --nodes; then export "
                f"{SECRET}."
            )

    def start_seconds(self) -> float:
        """Returns how long workers wait for each other at the start."""
        if self.start_timeout is not None:
            return self.start_timeout
        with contextlib.suppress(ValueError):
            return start_timeout({**worker_variables(), **self.variables})
        # It is for the workers to say what is wrong with it.
        return start_timeout({})
