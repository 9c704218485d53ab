"""The closing table of asynchronous workers; needs rich, which Keras brings."""

import math

from rich import box
from rich.console import Console
from rich.table import Table

from tfdp.throughput.asynchrony import Asynchrony, Share

_LONGEST = 16


def print_asynchrony(asynchrony: Asynchrony, words: str) -> None:
    """Prints what each asynchronous worker did.

    Args:
        asynchrony: What all workers did, over the whole run.
        words: What else to say; empty for nothing.
    """
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 0, 0, 1),
        pad_edge=False,
        title=f"{asynchrony.updates:,} updates of all workers, at "
        f"max_staleness={asynchrony.bound}",
        title_justify="left",
    )
    for name in (
        *("worker", "updates", "mean staleness", "largest"),
        *("waiting for room", "ms per gradient"),
    ):
        table.add_column(name, justify="right")
    workers = sorted(asynchrony.workers)
    shown = [
        worker
        for place, worker in enumerate(workers)
        if place < _LONGEST or worker == asynchrony.slowest
    ]
    for worker in shown:
        table.add_row(
            str(worker),
            *_cells(asynchrony.workers[worker]),
            style="bold" if worker == asynchrony.slowest else None,
        )
    console = Console()
    console.print(table)
    if len(shown) < len(workers):
        console.print(f"{len(shown)} of {len(workers)} workers")
    for worker in workers:
        if lost := asynchrony.workers[worker].lost:
            console.print(
                f"worker {worker} was lost: {lost}",
                markup=False,
                highlight=False,
            )
    if words:
        console.print(f"tfdp: {words}", markup=False, highlight=False)


def _cells(share: Share) -> list[str]:
    return [
        f"{share.updates:,}",
        _number(share.mean_staleness, "{:.2f}"),
        _number(share.max_staleness, "{:.0f}"),
        _number(100 * share.waiting_share, "{:.0f} %"),
        _number(1000 * share.gradient_seconds, "{:,.2f}"),
    ]


def _number(value: float, form: str) -> str:
    return "–" if math.isnan(value) else form.format(value)
