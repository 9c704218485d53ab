"""A job of `tfdp launch`, from its options to its exit code."""

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any, cast

import click
from rich.console import Console

from tfdp.cli.launch_options import LaunchOptions
from tfdp.cli.rendezvous import met
from tfdp.cli.screen import LiveScreen
from tfdp.cli.worker_lines import COLORS, WorkerLines
from tfdp.elastic import ElasticGroup, ElasticLauncher, Slots
from tfdp.elastic.nodes import (
    NodeLauncher,
    Post,
    Refused,
    Roster,
    program_of,
)
from tfdp.launching import (
    SET_FOR_WORKERS,
    AsynchronousGroup,
    ForkServer,
    Launcher,
    Restarts,
    StallWatch,
    WorkerGroup,
    is_start_up_line,
    worker_variables,
)
from tfdp.machine import MemoryFolder, isolate
from tfdp.settings import MEMORY_FOLDER, is_attended, memory_folder

_PRELOAD = ("tensorflow", "keras", "tfdp.callbacks")


class LaunchJob:
    """Runs a script as workers of this machine, with all that they need.

    Args:
        options: What was asked for.

    Raises:
        click.UsageError: If that does not go together.
    """

    def __init__(self, options: LaunchOptions) -> None:
        """Starts nothing yet."""
        self._options = options
        self._slots = options.slots()
        self._appointment = options.appointment()
        self._roster = options.roster()
        self._place = None if self._roster else options.place()
        self._count = 1
        if self._appointment:
            self._count = self._appointment.count
        elif self._place:
            self._count = self._place.workers_per_node
        elif self._roster:
            self._count = self._roster.slots_per_node
        elif options.workers:
            self._count = options.workers.most
        self._is_preloaded = options.is_preloaded()
        self._max_restarts = options.most_restarts()
        try:
            options.check(self._count, self._place)
            if options.isolated:
                isolate()
        except (ValueError, RuntimeError) as error:
            raise click.UsageError(str(error)) from error
        self._variables = dict(options.variables)
        if options.start_timeout is not None:
            seconds = f"{options.start_timeout:g}"
            self._variables["TFDP_START_TIMEOUT"] = seconds
        self._screen = self._new_screen()
        self._server: ForkServer | None = None

    def run(self) -> int:
        """Returns the exit code, once all workers have ended."""
        try:
            try:
                with self._memory(), self._forking():
                    exit_code = self._exit_code()
            finally:
                self._screen.close()
        except Refused as error:
            raise click.UsageError(str(error)) from error
        except OSError as error:
            if isinstance(error, BrokenPipeError):
                raise  # Nobody reads on, as after `| head`.
            raise click.ClickException(str(error)) from error
        return exit_code

    def _exit_code(self) -> int:
        limits: dict[str, Any] = {
            "max_restarts": self._max_restarts,
            "timeout": self._options.timeout,
            "say": self._screen.say,
        }
        if self._roster:
            return self._exit_code_of_node(self._roster, limits)
        if self._slots:
            launcher = ElasticLauncher(self._start, slots=self._slots, **limits)
            return launcher.run()
        return Launcher(self._start, **limits).run()

    def _exit_code_of_node(self, roster: Roster, limits: dict[str, Any]) -> int:
        options = self._options
        workers = str(options.workers)
        program = program_of(options.script, options.args, workers)
        with Post(roster, options.secret(), program) as post:
            return NodeLauncher(
                self._start,
                post=post,
                roster=roster,
                slots=self._new_slots,
                start_seconds=options.start_seconds(),
                **limits,
            ).run()

    def _new_slots(self) -> Slots:
        return cast(Slots, self._options.slots())

    def _start(
        self,
        restart_count: int,
        *,
        num_workers: int | None = None,
        kind: Callable[..., WorkerGroup] | None = None,
        **kwargs: Any,
    ) -> Any:
        options, place = self._options, self._place
        if place:
            kwargs["addresses"] = place.addresses
            kwargs["first_index"] = place.first_index
        elif self._appointment:
            kwargs["addresses"], kwargs["first_index"] = met(
                self._appointment, self._variables, options.timeout
            )
        group = (kind or self._group())(
            [sys.executable, "-u", options.script, *options.args],
            self._count if num_workers is None else num_workers,
            cpus_per_worker=options.cpus_per_worker,
            env=self._variables,
            restart_count=restart_count,
            log_dir=options.log_dir,
            server=self._server,
            on_line=self._show,
            grace_seconds=options.grace_seconds,
            stalls=self._stall_watch(restart_count),
            **kwargs,
        )
        self._screen.watch(group)
        return group

    def _show(self, worker: int, line: str) -> None:
        if self._options.verbose or not is_start_up_line(line):
            self._screen.print(worker, line)

    def _new_screen(self) -> LiveScreen | WorkerLines:
        is_live = sys.stdout.isatty() and is_attended()
        if self._options.plain or not is_live:
            return WorkerLines()
        return LiveScreen(Console(highlight=False), styles=COLORS)

    def _group(self) -> Callable[..., WorkerGroup]:
        if self._slots:
            return ElasticGroup
        if not self._options.asynchronous:
            return WorkerGroup
        return functools.partial(
            AsynchronousGroup,
            restarts=Restarts(self._max_restarts),
            patience=self._options.grace_seconds,
            on_fall=lambda failure: self._screen.say(str(failure)),
        )

    def _stall_watch(self, restart_count: int) -> StallWatch | None:
        options, place = self._options, self._place
        if options.asynchronous or options.stall_seconds == 0:
            return None
        is_last = restart_count >= self._max_restarts
        return StallWatch(
            options.stall_seconds,
            say=self._screen.say,
            ends=options.on_stall == "restart"
            or not (options.on_stall or is_last),
            start_seconds=options.start_seconds(),
            log_dir=options.log_dir,
            are_all_here=not (self._appointment or self._roster)
            and (not place or len(place.addresses) == self._count),
        )

    @contextlib.contextmanager
    def _forking(self) -> Iterator[None]:
        """Has a process from which workers are forked, if they are."""
        if not self._is_preloaded:
            yield
            return
        env = {**worker_variables(), **self._variables}
        self._server = ForkServer(_PRELOAD, env)
        try:
            yield
        finally:
            self._server.close()

    @contextlib.contextmanager
    def _memory(self) -> Iterator[None]:
        """Gives workers a folder in memory, unless they were given one."""
        is_given = MEMORY_FOLDER in self._variables or memory_folder()
        is_wanted = self._max_restarts and not self._options.asynchronous
        if is_given or not is_wanted:
            yield
            return
        try:
            # A group that this process is part of must leave its keeper alone.
            own = {
                k: v
                for k, v in worker_variables().items()
                if k not in SET_FOR_WORKERS
            }
            folder = MemoryFolder(env=own)
        except OSError as error:
            self._screen.say(
                f"Warning: no folder in memory for backups ({error})."
            )
            yield
            return
        with folder:
            self._variables[MEMORY_FOLDER] = str(folder.path)
            yield
