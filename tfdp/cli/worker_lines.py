"""What workers print, as lines of this terminal."""

import contextlib
import os
import sys

import click

from tfdp.launching import WorkerGroup

COLORS = ("cyan", "magenta", "green", "yellow", "blue")


class WorkerLines:
    """Prints lines with the worker that they are of, where there is room.

    Output that goes to a full disk is told of once, on the other stream, and
    ends no training; it goes on where there is room again.

    Example:

    >>> WorkerLines().print(0, "hello")
    [worker 0] hello
    """

    def __init__(self) -> None:
        """Has told nothing yet."""
        self._is_told = False

    def print(self, worker: int, line: str) -> None:
        """Prints a line.

        Args:
            worker: Index of the worker.
            line: The line, without its end.

        Raises:
            BrokenPipeError: If nobody reads on.
        """
        color = COLORS[worker % len(COLORS)]
        try:
            click.echo(click.style(f"[worker {worker}] ", fg=color) + line)
        except BrokenPipeError:
            raise
        except OSError as error:
            if not self._is_told:
                self._is_told = True
                say(
                    f"The output cannot be written ({error.strerror}); lines "
                    "are left out of it until there is room. The workers go "
                    "on, and so do the files of --log-dir."
                )

    def say(self, message: str) -> None:
        """Prints a message of the launcher's own, where there is room.

        Args:
            message: The message.
        """
        say(message)

    def watch(self, group: WorkerGroup) -> None:
        """Does without knowing where workers stand."""

    def close(self) -> None:
        """Gives up what no room was left for, which Python would fail at."""
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            raise
        except OSError:
            with contextlib.suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, sys.stdout.fileno())
                os.close(nowhere)


def say(message: str) -> None:
    """Prints a message of the launcher's own, where there is room.

    Args:
        message: The message.
    """
    # A full disk must not end the training.
    with contextlib.suppress(OSError):
        click.echo(message, err=True)
