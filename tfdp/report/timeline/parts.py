"""The parts of a single step, in its order."""

from collections.abc import Iterator, Mapping, Sequence

from tfdp.report.timeline.logged_steps import LoggedFit

Key = tuple[int, int]


def communications(fit: LoggedFit) -> dict[Key, int]:
    """Returns how long reductions took once all gradients were there.

    All replicas end a reduction together. The one that comes last waits for
    none, so that what it spends is what all spend.

    Args:
        fit: What all workers have told of.

    Returns:
        Microseconds by step and place of the reduction in it.
    """
    found: dict[Key, int] = {}
    for spans in fit.spans:
        places: dict[Key, int] = {}
        for number, _, ready, reduced, replica in spans.batches:
            if reduced is None:
                continue
            place = places.get((number, replica), 0)
            places[number, replica] = place + 1
            took = max(reduced - ready, 0)
            key = number, place
            found[key] = min(found.get(key, took), took)
    return found


def parts_of_step(
    step: Sequence[int],
    batches: Sequence[tuple[int, int, int, int | None, int]],
    shared: Mapping[Key, int],
) -> Iterator[tuple[str, int, int]]:
    """Cuts a step of a replica into its parts.

    Args:
        step: Number, begin, data asked for, end, ...
        batches: Its micro-batches.
        shared: What `communications` returns.

    Yields:
        Name, begin and end of each part that takes time, one after the other.

    Example:

    >>> step, batch = (7, 0, 10, 100, 0), (7, 20, 50, 80, 0)
    >>> for part in parts_of_step(step, [batch], {(7, 0): 12}):
    ...     print(*part)
    start 0 10
    input 10 20
    compute 20 50
    waiting 50 68
    communication 68 80
    other 80 100
    """
    number, begin, asked, end = step[:4]
    edges = [("start", asked)]
    place = 0
    for _, began, ready, reduced, _ in batches:
        edges += [("input", began), ("compute", ready)]
        if reduced is not None:
            edges.append(("waiting", reduced - shared[number, place]))
            edges.append(("communication", reduced))
            place += 1
    free = begin
    for name, edge in [*edges, ("other", end)]:
        # Stamps of a clock that was set stay within the step.
        until = min(max(edge, free), end)
        if until > free:
            yield name, free, until
        free = until
