"""`tfdp bench`: how fast this machine trains; one module per subcommand."""

import click

from tfdp.cli.bench_allreduce import allreduce
from tfdp.cli.bench_scaling import scaling


@click.group()
def bench() -> None:
    """Measures, and says what to expect elsewhere."""


bench.add_command(allreduce)
bench.add_command(scaling)
