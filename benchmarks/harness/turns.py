"""Programs that run in turns, so that a machine that slows down slows all."""

import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile

_MARK = "[turn] "
# As `tfdp launch` sets it for its workers; peers at their best, too.
KERNELS = {"TF_ENABLE_ONEDNN_OPTS": "1"}


def next_turn(answer="ready"):
    """Answers the last turn, and waits for the next, in a program of its own.

    Args:
        answer: What `Player.turn` returns; the first says that this is ready.

    Returns:
        What `Player.turn` is given next. Both are JSON.
    """
    print(_MARK + json.dumps(answer), flush=True)
    line = sys.stdin.readline()
    if not line:
        # At the end of the interpreter workers would wait for each other.
        os._exit(0)
    return json.loads(line)


def serve(turn):
    """Answers every turn by calling a function, until input ends."""
    answer = "ready"
    while True:
        answer = turn(next_turn(answer))


class Player:
    """A program, as one process or several workers, idle but in its turns.

    Args:
        command: Program and arguments; the program calls `next_turn`.
        environments: Variables of each process. Defaults to one process.
        cores: The cores that each process is kept on. Defaults to all.
    """

    def __init__(self, command, environments=({},), cores=None):
        self._command = [str(word) for word in command]
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._processes = []
        for index, variables in enumerate(environments):
            with _on(cores[index] if cores else None):
                process = subprocess.Popen(
                    self._command,
                    env={
                        **KERNELS,
                        **os.environ,
                        "TF_CPP_MIN_LOG_LEVEL": "3",
                        **variables,
                    },
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=self._errors,
                    text=True,
                )
            self._processes.append(process)

    def wait_until_ready(self):
        """Returns when every process waits for its first turn."""
        for process in self._processes:
            self._answer_of(process)

    def turn(self, argument):
        """Returns the answers of the processes, in their order."""
        for process in self._processes:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(json.dumps(argument) + "\n")
                process.stdin.flush()
        return [self._answer_of(process) for process in self._processes]

    def close(self):
        """Ends the processes."""
        for process in self._processes:
            process.kill()
            process.communicate()

    def _answer_of(self, process):
        for line in process.stdout:
            if line.startswith(_MARK):
                return json.loads(line.removeprefix(_MARK))
        self._errors.seek(0)
        last = "".join(self._errors.readlines()[-20:])
        raise SystemExit(f"{last}\nThis has failed: {' '.join(self._command)}")


@contextlib.contextmanager
def ready(players):
    """Ends the players with the block, which begins when all are ready."""
    try:
        for player in players.values():
            player.wait_until_ready()
        yield
    finally:
        for player in players.values():
            player.close()


def in_turns(players, argument, rounds):
    """Gives every player a turn in each round; the first round warms up.

    Args:
        players: Players by name, who are ready.
        argument: What `Player.turn` is given.
        rounds: Number of rounds, the first not counted.

    Returns:
        By name, the answers of each round.
    """
    answers = {name: [] for name in players}
    names = list(players)
    for number in range(rounds + 1):
        # Nobody always follows the same one.
        turned = names[number % len(names) :] + names[: number % len(names)]
        for name in turned:
            answers[name].append(players[name].turn(argument))
    return {name: each[1:] for name, each in answers.items()}


def ratio_of_medians(numerators, denominators):
    """Returns the ratio of the medians over the rounds."""
    return statistics.median(numerators) / statistics.median(denominators)


def machine(*versions):
    """Names the machine, its cores, and what ran on it."""
    cores = len(os.sched_getaffinity(0))
    name = platform.processor() or platform.machine()
    return ", ".join([f"{name}, {cores} cores", *versions])


@contextlib.contextmanager
def _on(cores):
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores or before)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
