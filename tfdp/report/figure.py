"""Curves that are drawn in one pair of axes."""

import dataclasses
import itertools
from collections.abc import Iterable, Sequence

from tfdp.report.curve import Curve, Point
from tfdp.report.log_lines import Line, number
from tfdp.report.run import Run

MOST_POINTS = 500
_CLOSE = 0.005  # of the height of the axes


@dataclasses.dataclass(frozen=True)
class Figure:
    """Curves that share their axes.

    Attributes:
        key: Its name in files and links.
        title: Its heading.
        axis: What the vertical axis shows, with its unit.
        caption: What is drawn, in a sentence.
        curves: The curves, whole.
        log: Whether the vertical axis is logarithmic.
        zero: Whether it begins at zero.
    """

    key: str
    title: str
    axis: str
    caption: str
    curves: Sequence[Curve]
    log: bool = False
    zero: bool = False

    @property
    def thinned(self) -> list[Curve]:
        """Its curves, with no more points than can be told apart."""
        return [curve.thinned(MOST_POINTS) for curve in self.curves]

    @property
    def has_equal_curves(self) -> bool:
        """Whether curves of two runs can hardly be told apart."""
        values = [value for curve in self.curves for value in curve.values]
        close = _CLOSE * (max(values) - min(values))
        return any(
            a.name == b.name and a.distance(b) <= close
            for a, b in itertools.combinations(self.curves, 2)
        )

    @property
    def is_thinned(self) -> bool:
        """Whether a curve has more points than can be told apart."""
        return any(len(curve.points) > MOST_POINTS for curve in self.curves)


def drawn(figures: Iterable[Figure]) -> list[Figure]:
    """Returns the figures that have something to draw, with only that."""
    found = []
    for figure in figures:
        curves = [curve for curve in figure.curves if curve.values]
        if curves:
            found.append(dataclasses.replace(figure, curves=curves))
    return found


def logged(
    run: Run, name: str, lines: Iterable[Line], key: str, style: str = "solid"
) -> Curve:
    """Returns the curve of a number of some lines.

    Args:
        run: The run of the lines.
        name: What to call the curve.
        lines: The lines; those without the number are passed over.
        key: The number's name in them.
        style: `"solid"`, `"dashed"` or `"dotted"`.

    Returns:
        The curve, which has no points where no line has the number.
    """
    points = [Point(x["update"], number(x, key)) for x in lines if key in x]
    return Curve(run.name, name, points, style)
