"""The `tfdp` command; one module per subcommand."""

import click

from tfdp.cli.bench import bench
from tfdp.cli.doctor import doctor
from tfdp.cli.estimate import estimate
from tfdp.cli.launch import launch
from tfdp.cli.report import report
from tfdp.cli.selftest import selftest


@click.group()
@click.version_option(package_name="tfdp", prog_name="tfdp")
def main() -> None:
    """Data-parallel training with TensorFlow and Keras."""


main.add_command(bench)
main.add_command(doctor)
main.add_command(estimate)
main.add_command(launch)
main.add_command(report)
main.add_command(selftest)
