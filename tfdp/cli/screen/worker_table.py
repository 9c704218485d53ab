"""All workers as a table that fits into a terminal."""

import dataclasses
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from tfdp.cli.screen.worker_row import UNKNOWN, WorkerRow

_GAP = 2
_SHORTEST_LINE = 16
# The rule above the table, its heading, and where the cursor stays.
_OTHER_LINES = 3
_STYLES = {
    "training": "green",
    "waiting": "yellow",
    "meeting": "yellow",
    "saving": "blue",
    "validating": "blue",
    "ended": "dim",
}


@dataclasses.dataclass(frozen=True)
class _Column:
    name: str
    heading: str
    width: int
    is_number: bool = True

    def needed(self, rows: Sequence[WorkerRow]) -> int:
        texts = [getattr(row, self.name) for row in rows]
        return max(self.width, *map(len, [self.heading, *texts]))


# In their order in the table.
_COLUMNS = (
    _Column("worker", "worker", 1),
    _Column("state", "state", 10, is_number=False),
    _Column("epoch", "epoch", 1),
    _Column("update", "update", 9),
    _Column("rate", "samples/s", 9),
    _Column("waiting", "waiting", 4),
    _Column("memory", "memory", 8),
    _Column("left", "left", 6),
)
# What goes without saying last.
_IN_NEED = (
    *("worker", "state", "update", "epoch"),
    *("rate", "left", "waiting", "memory"),
)


def worker_table(
    rows: Sequence[WorkerRow], title: str, *, width: int, height: int
) -> RenderableType:
    """Returns the table of those columns and rows there is room for.

    Args:
        rows: One for each worker.
        title: What is said of all of them.
        width: Characters of a line of the terminal.
        height: Its lines.

    Example:

    >>> import rich.console
    >>> console = rich.console.Console(width=40)
    >>> console.print(
    ...     worker_table(
    ...         [WorkerRow("0", "training", "2", "36/90")],
    ...         "1 worker",
    ...         width=40,
    ...         height=24,
    ...     )
    ... )
    ─────────────── 1 worker ───────────────
    worker  state       epoch     update
         0  training        2      36/90
    """
    columns, rest = _fitting(rows, width)
    table = Table(
        box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="dim"
    )
    for column, needed in columns:
        table.add_column(
            column.heading,
            justify="right" if column.is_number else "left",
            no_wrap=True,
            width=needed,
        )
    if rest:
        table.add_column("last line", no_wrap=True, width=rest)
    room = max(height - _OTHER_LINES, 1)
    shown = rows if len(rows) <= room else rows[: max(room - 1, 0)]
    for row in shown:
        cells = [_cell(row, column) for column, _ in columns]
        if rest:
            line = Text.from_ansi(row.line.expandtabs())
            line.truncate(rest, overflow="ellipsis")
            cells.append(line)
        table.add_row(*cells)
    parts: list[RenderableType] = [Rule(title, style="dim"), table]
    if len(shown) < len(rows):
        more = f"and {len(rows) - len(shown)} more"
        parts.append(Text(more, style="dim", no_wrap=True))
    return Group(*parts)


def _cell(row: WorkerRow, column: _Column) -> Text:
    text = getattr(row, column.name)
    style = _STYLES.get(text, "") if column.name == "state" else ""
    return Text(text, style="dim" if text == UNKNOWN else style)


def _fitting(
    rows: Sequence[WorkerRow], width: int
) -> tuple[list[tuple[_Column, int]], int]:
    """Returns columns with their widths, and what is left for the last line."""
    needed = {column.name: column.needed(rows) for column in _COLUMNS}
    left, kept = width, set()
    for name in _IN_NEED:
        if needed[name] > left:
            break
        kept.add(name)
        left -= needed[name] + _GAP
    columns = [(c, needed[c.name]) for c in _COLUMNS if c.name in kept]
    has_all = len(columns) == len(_COLUMNS)
    return columns, left if has_all and left >= _SHORTEST_LINE else 0
