"""What waiting for room costs asynchronous workers, and which bound ends it."""

import math
from collections.abc import Sequence

from tfdp.throughput.asynchrony import Asynchrony

# Below this part of the time nobody would feel a cure.
_WORTH_A_WORD = 0.15
# What may be left of waiting, so that no bound is raised for little.
_HARDLY_ANY = 0.05
_SLOW = 1.15


def free_bound(gradient_seconds: Sequence[float]) -> int:
    """Returns the smallest `max_staleness` at which hardly anybody waits.

    While worker i takes `t_i` seconds for a gradient, nobody waiting, the
    others make `d_i = sum(t_i / t_j for j != i)` updates, so that its own is
    as stale. At a bound `b` below that, they wait for it for `1 - b / d_i` of
    their time. The largest `d_i`, that of the slowest worker, is where this
    ends: `r (n - 1)`, if it takes r times as long as n - 1 equal ones. All of
    n workers can compute at once from a bound of `n - 1` on.

    This is of gradients that always take as long. Where they do not, some
    waiting is left.

    Args:
        gradient_seconds: What a gradient takes each worker.

    Example:

    >>> free_bound([1.0, 1.0, 1.0]), free_bound([1.0, 1.0, 3.0])
    (2, 6)
    """
    rate = sum(1 / seconds for seconds in gradient_seconds)
    made = max((t * rate - 1 for t in gradient_seconds), default=0.0)
    enough = math.ceil((1 - _HARDLY_ANY) * made - 1e-9)
    return max(len(gradient_seconds) - 1, enough, 0)


def room_words(asynchrony: Asynchrony) -> str:
    """Says what waiting for room costs, which bound ends it, and who is slow.

    Args:
        asynchrony: What all workers did.
    """
    share = asynchrony.waiting_share
    if math.isnan(share):
        return "no worker has updated."
    bound = asynchrony.bound
    words = (
        f"workers wait for room {100 * share:.0f} % of the time, at "
        f"max_staleness={bound}"
    )
    free = free_bound(list(asynchrony.gradient_seconds.values()))
    if share < _WORTH_A_WORD:
        words += "."
    elif free > bound:
        words += (
            f"; max_staleness={free} would leave hardly any of that, with "
            "gradients that miss more updates."
        )
    else:
        words += (
            ", which would do if each worker always took as long; look at "
            "what else runs on these machines, or raise it, with gradients "
            "that miss more updates."
        )
    return words + _slow_worker(asynchrony, free)


def _slow_worker(asynchrony: Asynchrony, free: int) -> str:
    seconds = asynchrony.gradient_seconds
    slowest = asynchrony.slowest
    if slowest is None or asynchrony.slowness < _SLOW:
        return ""
    words = (
        f" Worker {slowest} takes {asynchrony.slowness:.3g} times as long as "
        f"the median for a gradient, {_time(seconds[slowest])}; look at "
        "what else runs there"
    )
    others = [t for worker, t in seconds.items() if worker != slowest]
    without = free_bound(others)
    if len(others) > 1 and without < free:
        words += f", or leave it out: max_staleness={without} does without it"
    return words + "."


def _time(seconds: float) -> str:
    return f"{1000 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"
