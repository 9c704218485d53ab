"""Which part of a grid of parameters is run at once."""

import collections
import itertools


def rest(items):
    """Returns the tests to leave for later, of those with several parameters.

    Of each test function, every value of every parameter is kept, in as few
    combinations as that takes, on two replicas rather than on four.

    Args:
        items: Tests that pytest has collected.
    """
    grids = collections.defaultdict(list)
    for item in items:
        if hasattr(item, "callspec") and len(_values(item)) > 1:
            grids[item.parent.nodeid, item.originalname].append(item)
    return list(itertools.chain.from_iterable(map(_rest_of, grids.values())))


def _rest_of(grid):
    left, seen = list(grid), set()
    while left:
        best = max(left, key=lambda x: (len(_values(x) - seen), -_cost(x)))
        if _values(best) <= seen:
            break
        seen |= _values(best)
        left.remove(best)
    return left


def _values(item):
    # An id for each `parametrize`, whatever number of arguments it has.
    return set(enumerate(item.callspec._idlist))


def _cost(item):
    return abs(item.callspec.params.get("strategy", 2) - 2)
