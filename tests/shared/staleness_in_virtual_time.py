"""Asynchronous workers at the engine's own bound, in a time that is counted."""

import collections
import heapq
import itertools

from tfdp.asynchronous.staleness import Staleness
from tfdp.throughput.asynchrony import Asynchrony, Share


def trained(bound, *workers, until=300.0):
    """Lets workers train; nothing sleeps.

    Args:
        bound: The largest staleness.
        workers: Returns the seconds of its next gradient, of each worker.
        until: When all is over.
    """
    staleness = Staleness(bound)
    number = itertools.count()
    ends, reading, updating = [], collections.deque(), []
    asked = {}
    computing, waiting = collections.Counter(), collections.Counter()
    for worker in range(len(workers)):
        staleness.join(worker)
        reading.append(worker)
        asked[worker] = 0.0

    def grant(now):
        while True:
            # Who has updated reads before those wake that wait.
            while reading and staleness._has_room():
                worker = reading.popleft()
                staleness.read(worker)
                waiting[worker] += now - asked[worker]
                seconds = workers[worker]()
                computing[worker] += seconds
                heapq.heappush(ends, (now + seconds, next(number), worker))
            ready = [w for w in updating if staleness._leaves_room(w)]
            if not ready:
                return
            updating.remove(ready[0])
            staleness.update(ready[0], step=0)
            waiting[ready[0]] += now - asked[ready[0]]
            asked[ready[0]] = now
            reading.append(ready[0])

    grant(0.0)
    while ends and ends[0][0] < until:
        now, _, worker = heapq.heappop(ends)
        asked[worker] = now
        updating.append(worker)
        grant(now)
    # Who is not done has not computed, or waited, in vain.
    for end, _, worker in ends:
        computing[worker] -= end - until
    for worker in (*reading, *updating):
        waiting[worker] += until - asked[worker]
    return Asynchrony(
        bound,
        {
            worker: Share(histogram, computing[worker], waiting[worker])
            for worker, histogram in staleness.histograms().items()
        },
    )
