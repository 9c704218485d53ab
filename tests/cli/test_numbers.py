"""Numbers of the command line that are none, or too large."""

import click
import pytest
from click.testing import CliRunner

from tfdp.cli import main


def options(command, path=()):
    """All options of a command and of those below it that take numbers."""
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            yield from options(below, (*path, name))
        return
    for param in command.params:
        if isinstance(param.type, click.types._NumberParamTypeBase):
            yield [*path, param.opts[0]], param.type


OPTIONS = list(options(main))


def test_all_commands_are_looked_at():
    assert {words[0] for words, _ in OPTIONS} == {
        "bench",
        "doctor",
        "estimate",
        "launch",
        "selftest",
    }
    assert len(OPTIONS) >= 15


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "-1", "x", "1e400"])
@pytest.mark.parametrize(
    "words", [words for words, _ in OPTIONS], ids=lambda words: " ".join(words)
)
def test_a_number_must_be_one(words, number):
    *command, option = words
    if option == "--node-rank" and number == "-1":
        pytest.skip("it is compared with --nodes")
    result = CliRunner().invoke(
        main, [*command, f"{option}={number}", __file__]
    )
    assert result.exit_code == 2, result.output
    assert f"Invalid value for '{option}'" in result.output


@pytest.mark.parametrize(
    "words",
    [w for w, _ in OPTIONS if w[-1] == "--workers"],
    ids=lambda words: " ".join(words),
)
def test_too_many_workers_are_refused_at_once(words):
    *command, option = words
    result = CliRunner().invoke(
        main, [*command, f"{option}=1{12 * '0'}", __file__]
    )
    assert result.exit_code == 2, result.output
    assert "1024" in result.output
