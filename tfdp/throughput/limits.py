"""What limits the speed of a run, and what to try about it."""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence

import numpy as np

from tfdp.throughput.asynchrony import Asynchrony
from tfdp.throughput.breakdown import BETWEEN, Breakdown
from tfdp.throughput.feed import Feed
from tfdp.throughput.room import room_words
from tfdp.throughput.window import Window

# Below this part of the time a cure would hardly be felt.
_WORTH_A_WORD = 0.15
# Seconds that it takes to fetch a micro-batch which is ready; a larger batch
# spreads them over more samples, where a faster pipeline would not help.
_FETCH = 1e-3
# What a cure aims at.
_LITTLE = 0.3
_LARGEST_FACTOR = 64


@dataclasses.dataclass(frozen=True)
class Limit:
    """The one thing that costs a run most, beside its computation.

    Attributes:
        kind: `"input"`, `"communication"`, `"straggler"`, `"room"`,
            `"callbacks"`, `"small batch"` or `"none"`.
        share: Its part of the time, in `[0, 1]`; of computation for `"none"`.
        words: What that means, and what to try.
    """

    kind: str
    share: float
    words: str

    def __str__(self) -> str:
        return self.words


def limit(
    window: Window,
    accumulation_steps: int,
    feed: Feed | None = None,
    *,
    all_read_all: bool = False,
    asynchrony: Asynchrony | None = None,
) -> Limit | None:
    """Returns what limits a run.

    Each cure is computed from what was measured: more accumulation divides
    communication and the update, a larger batch per replica what a step costs
    whatever its size.

    Args:
        window: What was measured, over the whole run.
        accumulation_steps: Micro-batches per update.
        feed: Where batches come from. Defaults to `None`: not known.
        all_read_all: Whether each of several workers reads all samples.
        asynchrony: What asynchronous workers did; `None` for synchronous ones.

    Returns:
        The largest part that is no computation, or `"none"` where all are
        small; `None` where nothing was measured.
    """
    breakdown = window.breakdown
    if math.isnan(breakdown.share("compute")):
        return None
    updates = window.rates.updates
    fetch = min(*breakdown.input, accumulation_steps * _FETCH * updates)
    shares = {
        "input": _share(breakdown, [t - fetch for t in breakdown.input]),
        "communication": _share(
            breakdown, breakdown.communication, breakdown.voting
        ),
        "straggler": _share(breakdown, breakdown.waiting, breakdown.held),
        # A worker that others wait for waits for nobody itself.
        "room": (
            asynchrony.waiting_share
            if asynchrony and asynchrony.updates
            else 0.0
        ),
        # What one worker has more, others wait for.
        "callbacks": _share(
            breakdown, [], [min(breakdown.between)] * len(breakdown.between)
        ),
        "small batch": _share(
            breakdown,
            [t + fetch + min(breakdown.start) for t in breakdown.other],
        ),
    }
    kind = max(shares, key=shares.__getitem__)
    if shares[kind] < _WORTH_A_WORD:
        kind = "none"
        shares[kind] = _share(breakdown, breakdown.compute)
    say: dict[str, Callable[[Window, float, int], str]] = {
        "input": functools.partial(_input, feed or Feed()),
        "communication": _communication,
        "straggler": _straggler,
        "room": lambda *_: room_words(asynchrony) if asynchrony else "",
        "callbacks": _callbacks,
        "small batch": _small_batch,
        "none": _none,
    }
    words = say[kind](window, shares[kind], accumulation_steps)
    if kind == "input" and all_read_all:
        words += (
            " Every worker reads all samples here, and drops those of the "
            "others: `dataset.apply(tfdp.shard)`, before what takes long, has "
            "each read its own alone."
        )
    if window.is_bound:
        words += (
            " Devices work asynchronously here, so that parts of a step are "
            "bounds; a profile says more."
        )
    return Limit(kind, shares[kind], words)


def _share(
    breakdown: Breakdown,
    by_replica: Sequence[float],
    by_worker: Sequence[float] = (),
) -> float:
    """Returns the part of all time, that between steps included."""
    total = sum(sum(getattr(breakdown, part)) for part in breakdown.parts)
    for part in BETWEEN:
        total += _of_replicas(breakdown, getattr(breakdown, part))
    return (sum(by_replica) + _of_replicas(breakdown, by_worker)) / total


def _of_replicas(breakdown: Breakdown, by_worker: Sequence[float]) -> float:
    if not by_worker:
        return 0.0
    return float(np.dot(by_worker, breakdown.replicas_by_worker))


def _communication(window: Window, share: float, steps: int) -> str:
    factor = _factor(share)
    batch = factor * _batch(window)
    words = (
        f"communication is {_percent(share)} of the time; "
        f"accumulation_steps={factor * steps} would bring it to "
        f"{_percent(_thinned(share, factor))}, at a global batch of about "
        f"{batch:,.0f} {window.unit}"
    )
    if window.breakdown.room:
        return f"{words}."
    return (
        f"{words}; so would "
        f"`synchronization=tfdp.LocalSGD(sync_every={factor})` at the batch of "
        "now, at the price in docs/ideas/synchronization.md."
    )


def _input(feed: Feed, window: Window, share: float, steps: int) -> str:
    return (
        f"waiting for data is {_percent(share)} of the time; without it this "
        f"run would do {1 / (1 - share):.3g} times the {window.unit}/s. "
        f"{feed.cure}"
    )


def _straggler(window: Window, share: float, steps: int) -> str:
    breakdown, updates = window.breakdown, window.rates.updates
    replica = breakdown.slowest
    worker = breakdown.worker_of(replica)
    others = f"replicas wait for the slowest {_percent(share)} of the time"
    if breakdown.skew < 1 + _WORTH_A_WORD:
        return (
            f"{others}, but take turns at it (skew {breakdown.skew:.2f}). "
            "Give them batches of equal cost, and look at what else runs on "
            "these machines."
        )
    parts = {
        "in computation": breakdown.compute[replica],
        "waiting for data": breakdown.input[replica],
        "starting its steps": breakdown.start[replica],
        "between its steps": breakdown.between[worker],
    }
    cause = max(parts, key=parts.__getitem__)
    return (
        f"replica {replica} (worker {worker}) takes {breakdown.skew:.3g} times "
        f"as long as the median, {_milliseconds(parts[cause] / updates)} an "
        f"update {cause}; {others}. Look at what else runs there, or "
        "leave it out."
    )


def _callbacks(window: Window, share: float, steps: int) -> str:
    return (
        f"callbacks between steps take {_percent(share)} of the time. Have "
        "them work at the end of epochs, or less often (`save_freq=`, "
        "`update_freq=`; of a monitor `window=`, of `RunLogger` `every=`)."
    )


def _small_batch(window: Window, share: float, steps: int) -> str:
    factor = _factor(share)
    replicas = len(window.rates.by_replica)
    now = _batch(window) / (replicas * steps)
    at = (
        f"with accumulation_steps={steps // factor} at the same global batch"
        if steps % factor == 0
        else f"at a global batch of about {factor * _batch(window):,.0f}"
    )
    return (
        "what a step costs at any batch (starting it, fetching, the update, "
        f"metrics) is {_percent(share)} of the time; {factor} times the "
        f"per-replica batch (now {now:,.0f} {window.unit}) would bring it to "
        f"{_percent(_thinned(share, factor))}, {at}."
    )


def _none(window: Window, share: float, steps: int) -> str:
    return (
        f"computation is {_percent(share)} of the time, and nothing else "
        "takes much; faster or more devices are what is left."
    )


def _batch(window: Window) -> float:
    samples = sum(map(sum, window.rates.samples))
    return samples / window.rates.updates


def _factor(share: float) -> int:
    """Returns how many times the work per cost makes the cost little."""
    factor = 2
    while _thinned(share, factor) > _LITTLE and factor < _LARGEST_FACTOR:
        factor *= 2
    return factor


def _thinned(share: float, factor: int) -> float:
    return share / (share + factor * (1 - share))


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.3g} ms"
