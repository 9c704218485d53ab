"""The closing table of a run; needs rich, which Keras brings."""

import math

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tfdp.throughput.limits import Limit
from tfdp.throughput.window import Memory, Window

_LONGEST = 16
_LONGEST_UNIT = 16


def print_table(window: Window, limit: Limit, compiled: str = "") -> None:
    """Prints what was measured on each replica, and what limits the run.

    Args:
        window: What was measured, over the whole run.
        limit: What limits it.
        compiled: What was compiled, in words. Defaults to nothing.
    """
    rates, breakdown = window.rates, window.breakdown
    updates = rates.updates
    unit = window.unit
    if len(unit) > _LONGEST_UNIT:
        unit = unit[: _LONGEST_UNIT - 1] + "…"
    rate = escape(f"{unit}/s")
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=0,
        pad_edge=False,
        title=f"{rates.samples_per_second:,.0f} {rate} over "
        f"{updates:,} updates; ms per update",
        title_justify="left",
    )
    for name in ("replica", "worker", rate, *breakdown.parts):
        table.add_column(
            name, justify="right", min_width=len(name.replace("\\[", "["))
        )
    replicas = _shown(len(rates.by_replica), breakdown.slowest)
    for replica in replicas:
        table.add_row(
            str(replica),
            str(breakdown.worker_of(replica)),
            f"{rates.by_replica[replica]:,.0f}",
            *(
                ("≥ " if window.is_bound else "")
                + f"{1000 * getattr(breakdown, part)[replica] / updates:,.2f}"
                for part in breakdown.parts
            ),
            style="bold" if replica == breakdown.slowest else None,
        )
    console = Console()
    console.print(table)
    if len(replicas) < len(rates.by_replica):
        console.print(f"{len(replicas)} of {len(rates.by_replica)} replicas")
    console.print(_memory(window.memory), highlight=False)
    if compiled:
        console.print(compiled, highlight=False)
    console.print(f"tfdp: {limit}", markup=False, highlight=False)


def _memory(memory: Memory) -> str:
    words = f"memory: {_size(max(memory.by_worker))} in the largest process"
    devices = [each for each in memory.by_replica if not math.isnan(each)]
    if devices:
        words += f", up to {_size(max(devices))} on a device"
    return words


def _size(number: float) -> str:
    mib = number / 2**20
    return f"{mib / 1024:.1f} GiB" if mib >= 1024 else f"{mib:.0f} MiB"


def _shown(replicas: int, slowest: int) -> list[int]:
    first = range(min(replicas, _LONGEST))
    return [*first] if slowest in first else [*first[:-1], slowest]
