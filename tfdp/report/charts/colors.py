"""Colours of a report, on light and on dark ground."""

import re

# Series colours are those of Okabe and Ito, which the colour-blind can tell
# apart, as far as they stand out from the ground.
_COLORS = {
    "ground": ("#ffffff", "#14171c"),
    "panel": ("#f6f7f9", "#1c2027"),
    "line": ("#d9dde3", "#353b45"),
    "grid": ("#e8ebef", "#2a2f38"),
    "text": ("#1b1f24", "#e8eaed"),
    "quiet": ("#57606a", "#a3abb6"),
    "accent": ("#005a8e", "#7cc7f2"),
    "series-0": ("#0072b2", "#56b4e9"),
    "series-1": ("#d55e00", "#ff8a3d"),
    "series-2": ("#009e73", "#2fcf9f"),
    "series-3": ("#c0609b", "#e39bc5"),
    "series-4": ("#b97d00", "#f0e442"),
    "series-5": ("#3f9bd1", "#a9c7ff"),
    "series-6": ("#6b5bb5", "#b8a6ff"),
    "series-7": ("#57606a", "#c3c8cf"),
}
NUM_SERIES = sum(name.startswith("series") for name in _COLORS)


def series(place: int) -> str:
    """Returns the colour of a series; after the last comes the first again."""
    return f"var(--series-{place % NUM_SERIES})"


def style() -> str:
    """Returns the colours as CSS variables."""
    return "".join(
        f"--{name}:light-dark({light},{dark});"
        for name, (light, dark) in _COLORS.items()
    )


def on_light(text: str) -> str:
    """Returns a text with the variables in it made colours on light ground.

    Example:

    >>> on_light('{"color": "var(--text)"}')
    '{"color": "#1b1f24"}'
    """
    return re.sub(r"var\(--([\w-]+)\)", lambda of: _COLORS[of[1]][0], text)
