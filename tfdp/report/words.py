"""Numbers as a reader wants them."""

import math

UNKNOWN = "–"


def figure(value: float | None) -> str:
    """Returns a number with four digits that count.

    Example:

    >>> figure(12345.6), figure(0.012345), figure(None)
    ('12,346', '0.01235', '–')
    """
    if value is None:
        return UNKNOWN
    if abs(value) >= 1000 or value == int(value):
        return f"{value:,.0f}"
    if abs(value) < 1e-4:
        return f"{value:.3g}"
    places = 3 - math.floor(math.log10(abs(value)))
    return f"{value:.{places}f}".rstrip("0").rstrip(".")


def milliseconds(value: float | None) -> str:
    """Returns milliseconds with their unit, such as `"19.0 ms"`."""
    if value is None:
        return UNKNOWN
    places = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{places}f} ms"


def percent(value: float | None) -> str:
    """Returns a share in percent, such as `"61 %"`."""
    return UNKNOWN if value is None else f"{100 * value:.0f} %"


def rate(value: float | None) -> str:
    """Returns a rate or a ratio in three digits, such as `"1,234"`."""
    if value is None:
        return UNKNOWN
    places = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{places}f}"


def duration(seconds: float) -> str:
    """Returns a time in its two largest units.

    Example:

    >>> duration(7384), duration(95), duration(9.2)
    ('2 h 3 min', '1 min 35 s', '9.2 s')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60:,} h {minutes % 60} min"


def title(name: str) -> str:
    """Returns the name of a metric as a heading."""
    words = name.replace("_", " ").strip()
    return words[:1].upper() + words[1:]


def shortened(text: str, most: int) -> str:
    """Returns a text of at most so many letters.

    Example:

    >>> shortened("accuracy", 5), shortened("loss", 5)
    ('accu…', 'loss')
    """
    return text if len(text) <= most else text[: most - 1] + "…"
