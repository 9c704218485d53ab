"""What asynchronous workers do, as one of them sees it in a fit."""

import math
from typing import Any

from tfdp.throughput import Asynchrony, Limit, print_asynchrony, room_words


class ExchangeWatch:
    """Watches the exchanges of a fit; sees nothing of synchronous workers.

    What exchanges take is measured step by step. What all workers do, their
    server has counted, which is asked when the first epoch begins, and when
    each ends.

    Args:
        strategy: The strategy of the fit, whose `exchange` is watched.
    """

    def __init__(self, strategy: Any) -> None:
        self._strategy = strategy
        self._of_fit: Asynchrony | None = None
        self._of_epoch: Asynchrony | None = None
        self._begin: Asynchrony | None = None
        self._last: Asynchrony | None = None
        self._before: Any = None
        self._words = ""

    @property
    def of_fit(self) -> Asynchrony | None:
        """What all workers have done in the epochs that have ended."""
        return self._of_fit

    @property
    def of_epoch(self) -> Asynchrony | None:
        """What all workers have done in the last epoch that has ended."""
        return self._of_epoch

    def begin_epoch(self) -> None:
        """Asks, at the first, what was done before, which does not count."""
        if self._begin is None:
            self._begin = self._last = self._now()

    def begin_step(self) -> None:
        """Notes what exchanges have taken before a step."""
        self._before = self._exchange and self._exchange.spent

    def end_step(self) -> dict[str, float]:
        """Returns the seconds of the step, as `StepLog.add_step` wants them."""
        if self._exchange is None or self._before is None:
            return {}
        spent = self._exchange.spent
        exchanging = max(spent.exchanging - self._before.exchanging, 0.0)
        # Who joins anew is told of what it waited for before.
        room = min(max(spent.waiting - self._before.waiting, 0.0), exchanging)
        return {"exchanging": exchanging, "room": room}

    def end_epoch(self) -> dict[str, float]:
        """Returns what is to be logged of the epoch."""
        self._words = ""
        now = self._now()
        if now is None or self._begin is None or self._last is None:
            return {}
        self._of_fit = now.since(self._begin)
        # Others may have begun the next one already.
        self._of_epoch = of_epoch = now.since(self._last)
        self._last = now
        logs = of_epoch.as_logs(self._exchange.worker)
        self._words = (
            f" | {of_epoch.updates:,} updates of all workers | staleness "
            f"{logs['staleness_mean']:.2f}, at most {logs['staleness_max']:.0f}"
        )
        # Known where a step was measured that is no warm-up.
        return {"room_wait_fraction": math.nan, **logs}

    def in_words(self, logs: dict[str, float]) -> str:
        """Returns the end of the epoch's line.

        Args:
            logs: What is logged of the epoch.
        """
        if not self._words:
            return ""
        share = logs.get("room_wait_fraction", math.nan)
        room = "" if math.isnan(share) else f" | for room {100 * share:.0f} %"
        return self._words + room

    def print_table(self, limit: Limit) -> None:
        """Prints what each worker did.

        Args:
            limit: What was said already to limit the fit.
        """
        if self._of_fit is not None:
            words = "" if limit.kind == "room" else room_words(self._of_fit)
            print_asynchrony(self._of_fit, words)

    @property
    def _exchange(self) -> Any:
        return getattr(self._strategy, "exchange", None)

    def _now(self) -> Asynchrony | None:
        exchange = self._exchange
        return exchange and Asynchrony.of(exchange.statistics())
