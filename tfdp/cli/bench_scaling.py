"""`tfdp bench scaling`: how far a training scales."""

import click


@click.command()
def scaling() -> None:
    """Measures SCRIPT with some numbers of workers, and predicts more."""
    raise click.ClickException("not there yet")
