"""Measures what plain Keras does under a strategy, and what tfdp does.

python docs/exactness              # all rows, into docs/exactness.md
python docs/exactness --row A6     # those of A6 anew
python docs/exactness --row A6 --dry
"""

import importlib.metadata
import os
import pathlib
import platform
import sys

import click
import measuring

PAGE = pathlib.Path(__file__).parent.with_suffix(".md")
HEAD = """# Exactness, measured

What happens to a Keras program under a strategy, with plain Keras and with
tfdp. Every cell is measured by a small program, in a process of its own, when
this page is written:

```sh
python docs/exactness
```

`--row A6` measures only the rows of that name, `--dry` prints them instead.

Measured with {versions}.
Replicas are logical CPUs, 2 where a row does not say otherwise; workers are
2 processes.

On several workers `fit(x, y)`, which shuffles by default, has each sample once
per epoch, in an order that all workers share and that changes from epoch to
epoch. It is not that of one device: Keras draws it by an operation that differs
between workers, or repeats itself in each epoch once there is a seed. For equal
numbers there give `shuffle=False`, or a `tf.data` dataset that shuffles by a
seed.

Where float16 overflows, how many replicas and micro-batches there are decides
which updates a dynamic loss scale skips: the gradients of a share of the batch
are other numbers, in a format with a largest one, than those of the whole. So
it is at every growth of the scale, after 2,000 updates by default. Updates
that are made are exact up to that format's rounding; bfloat16 has the range of
float32, and skips none.

## How to read it

A number is the largest difference of a weight, relative where the weight is
above 1, from the same model trained by plain Keras on one device with one
large batch, unless the row says what else it is. Rounding alone makes up to
1e-6 with SGD, and 1e-5 with adaptive optimizers.

| Cell | Meaning |
| --- | --- |
| `crash` | the program ends with this error of Keras or TensorFlow |
| `refused` | tfdp raises this error, which says what to do instead |
| `found` | `tfdp.audit` names it, with this severity |
| `hang` | the program does not end |
| `inf`, `NaN` | weights are no numbers any more |

Rows are numbered by what is at fault: A the optimizer, B the strategy or
`fit`, C several workers and their data. "Plain is eager" where plain Keras
cannot accumulate in a graph, see A1. "As it is" and "wrapped" are without and
with `tfdp.DistributedLoss`. The test named in a row, of those in `tests/`,
fails when tfdp does not do what the row shows.

## The table

| Row | What happens | Plain Keras | tfdp | Test |
| --- | --- | --- | --- | --- |
"""


@click.command()
@click.option("--row", "chosen", metavar="ID", help="Only these, such as A6.")
@click.option("--dry", is_flag=True, help="Print instead of writing the page.")
@click.option("--why", is_flag=True, help="Print the errors, too.")
def main(chosen, dry, why):
    """Measures the rows of docs/exactness.md, and writes it."""
    rows = measuring.rows()
    asked = [r for r in rows if chosen in (None, r.id, r.function)]
    if not asked:
        raise click.BadParameter(f"no row is named {chosen}")
    context = measuring.server()
    lines = {} if chosen is None else _lines_of_page()
    for row in asked:
        cells = []
        for side in measuring.SIDES:
            cell, error = measuring.measured(context, row, side)
            click.echo(f"{row.function} {side}: {cell}", err=True)
            if why and error:
                click.echo(error, err=True)
            cells.append(cell)
        test = f"`{row.test}`" if row.test != "-" else "-"
        cells = [row.id, row.text, *cells, test]
        lines[row.text] = f"| {' | '.join(cells)} |"
        if dry:
            click.echo(lines[row.text])
    if not dry:
        page = HEAD.format(versions=_versions())
        page += "\n".join(lines[r.text] for r in rows if r.text in lines)
        PAGE.write_text(page + "\n")


def _lines_of_page():
    text = PAGE.read_text() if PAGE.exists() else ""
    lines = [line for line in text.splitlines() if line.count("|") == 6]
    return {line.split(" | ")[1]: line for line in lines}


def _versions():
    names = {"tensorflow": "TensorFlow", "keras": "Keras"}
    packages = ", ".join(
        f"{name} {importlib.metadata.version(package)}"
        for package, name in names.items()
    )
    python = platform.python_version()
    return f"{packages}, Python {python} and {os.cpu_count()} CPUs"


if __name__ == "__main__":
    sys.exit(main())
