"""What workers must agree on of generators, of which each has its own.

Every function is a collective: see `tfdp.agreement`.
"""

from collections.abc import Sequence
from typing import Protocol

from tfdp.agreement.gathering import Workers, gather_objects


class _Yields(Protocol):
    def counts(self) -> dict[int, int]: ...

    def digest(self, number: int, count: int) -> int: ...


def check_same_yields(strategy: Workers, yields: Sequence[_Yields]) -> None:
    """Checks that generators have yielded the same on all workers so far.

    As far as all of them have come, who read ahead by chance.

    Args:
        strategy: The strategy whose workers meet.
        yields: What each of this worker's generators has yielded.

    Raises:
        ValueError: On every worker, if one has yielded something else.
    """
    own = [list(each.counts().items()) for each in yields]
    places = _known_to_all(gather_objects(strategy, own))
    digests = [yields[which].digest(*place) for which, place in places]
    by_worker = gather_objects(strategy, digests)
    differing = [
        w for w, found in enumerate(by_worker) if found != by_worker[0]
    ]
    if differing:
        raise ValueError(
            "Every worker must be given the same samples in the same order, "
            "or some are seen twice and others never. Received: a generator "
            "that yields other elements than the chief's on worker "
            f"{', '.join(map(str, differing))}. Draw what it yields, and its "
            "order, by a generator of random numbers of its own that has the "
            "same seed on every worker, `np.random.default_rng(seed)`; or, "
            "where each worker makes its own shard, use "
            "`strategy.distribute_datasets_from_function`."
        )


def _known_to_all(
    by_worker: list[list[list[tuple[int, int]]]],
) -> list[tuple[int, tuple[int, int]]]:
    """Of which generators, and iterations of theirs, all know how much."""
    places = []
    for which, of_all in enumerate(zip(*by_worker, strict=True)):
        counts = [dict(map(tuple, of_worker)) for of_worker in of_all]
        for number in counts[0]:
            if all(number in known for known in counts):
                least = min(known[number] for known in counts)
                places.append((which, (number, least)))
    return places
