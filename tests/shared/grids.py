"""Which of the cases of a test are run at once."""

import collections

import pytest

REPLICAS = ("replicas", "strategy")


def rest(items):
    """Returns the tests to leave for later, of those with parameters.

    A case that differs from others in its number of replicas only is run on
    two. Of several parameters every value is kept, in as few combinations as
    that takes; of a test that is marked `sampled`, one case: the first of those
    on two replicas. What is marked `long` is for later anyway, and stands for
    no value.

    Args:
        items: Tests that pytest has collected.
    """
    grids = collections.defaultdict(list)
    for item in items:
        if hasattr(item, "callspec") and not item.get_closest_marker("long"):
            grids[item.parent.nodeid, item.originalname].append(item)
    return [item for grid in grids.values() for item in _rest_of(grid)]


def later(values, at_once):
    """Returns parameters of which all but those named are marked `long`."""
    long = pytest.mark.long
    return [v if v in at_once else pytest.param(v, marks=long) for v in values]


def of_this_run(request, argument):
    """Returns the values of a parameter in those tests of a file that run.

    What starts workers for a whole file starts them for these.
    """
    values = [
        item.callspec.params[argument]
        for item in request.session.items
        if item.path == request.path
        and hasattr(item, "callspec")
        and argument in item.callspec.params
    ]
    return list(dict.fromkeys(values))


def _rest_of(grid):
    kept = _on_two_replicas(grid)
    if grid[0].get_closest_marker("sampled"):
        kept = [min(kept, key=_cost)]
    elif len(_values(grid[0])) > 1:
        kept = _every_value(kept)
    return [item for item in grid if item not in kept]


def _on_two_replicas(grid):
    nearest = {}
    for item in sorted(grid, key=_cost):
        nearest.setdefault(_apart_from_replicas(item), item)
    return [item for item in grid if item in nearest.values()]


def _every_value(grid):
    kept, left, seen = [], list(grid), set()
    while left:
        best = max(left, key=lambda x: (len(_values(x) - seen), -_cost(x)))
        if _values(best) <= seen:
            break
        seen |= _values(best)
        left.remove(best)
        kept.append(best)
    return kept


def _values(item):
    # An id for each `parametrize`, whatever number of arguments it has.
    return set(enumerate(item.callspec._idlist))


def _apart_from_replicas(item):
    # Not all values can be compared, but a grid shares them.
    given = item.callspec.params.items()
    return frozenset((k, id(v)) for k, v in given if k not in REPLICAS)


def _cost(item):
    given = item.callspec.params
    replicas = next((given[name] for name in REPLICAS if name in given), 2)
    return abs(replicas - 2) if replicas > 1 else 3
