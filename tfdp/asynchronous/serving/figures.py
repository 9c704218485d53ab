"""What has happened in a training, in numbers that JSON can hold."""

from collections.abc import Mapping
from typing import Any

from tfdp.asynchronous.staleness import Staleness


def figures(staleness: Staleness) -> dict[str, Any]:
    """Returns what a monitor shows of updates, by worker where it has one.

    Args:
        staleness: What has let them through.
    """
    histograms = staleness.histograms()
    return {
        "version": staleness.version,
        "max_staleness": staleness.bound,
        "staleness": by_text({w: by_text(h) for w, h in histograms.items()}),
        "updates": by_text({w: sum(h.values()) for w, h in histograms.items()}),
        "waited": by_text(staleness.waited()),
        "computed": by_text(staleness.computed()),
    }


def by_text(by_number: Mapping[int, Any]) -> dict[str, Any]:
    """Returns a mapping with keys as JSON has them.

    Args:
        by_number: It, with others.

    Example:

    >>> by_text({2: "b", 1: "a"})
    {'1': 'a', '2': 'b'}
    """
    return {str(key): value for key, value in sorted(by_number.items())}
