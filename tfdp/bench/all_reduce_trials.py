"""Measures all-reduces on a cluster, over their sizes and over packs.

`python -m tfdp.bench.all_reduce_trials` is one worker of such a measurement;
`tfdp bench allreduce` starts it.
"""

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from tfdp.agreement import all_gather
from tfdp.bench import probe
from tfdp.bench.all_reduce_curve import (
    KIBIBYTE,
    MEBIBYTE,
    AllReduceCurve,
    check_replicas,
)
from tfdp.settings import DEFAULT_PACK

_MOST_CALLS = 10


class Sizes(NamedTuple):
    """What is measured.

    Attributes:
        messages: Bytes of tensors that are reduced alone.
        tensors: Bytes of tensors that are reduced together.
        packs: Bytes asked for per pack of them.
        fewest_rounds: How often at least.
        most_rounds: How often at most.
        budget_seconds: Time in which the rounds are to end, if fewer than
            `most_rounds` can.
    """

    messages: Sequence[int]
    tensors: Sequence[int]
    packs: Sequence[int]
    fewest_rounds: int = 7
    most_rounds: int = 30
    budget_seconds: float = 20.0


def block_sizes(width: int) -> list[int]:
    """Returns the bytes of the float32 gradients of a transformer's block.

    Args:
        width: Size of its vectors.

    Returns:
        12 sizes: two of normalisation, those of attention, two of
        normalisation, and those of a network of one hidden layer.

    Example:

    >>> sum(block_sizes(256)) / 2**20
    3.0126953125
    """
    square = width * width
    numbers = [width, width, 3 * square, 3 * width, square, width]
    numbers += [width, width, 4 * square, 4 * width, 4 * square, width]
    return [4 * number for number in numbers]


# 41 MB of gradients; the largest tensor has 1 MiB, so that packs differ.
_FULL_TENSORS = 13 * block_sizes(256)
FULL = Sizes(
    messages=[4**k * KIBIBYTE for k in range(1, 9)],
    tensors=_FULL_TENSORS,
    packs=[
        *(2**k * MEBIBYTE for k in range(6)),
        sum(_FULL_TENSORS),
    ],
)
QUICK = Sizes(
    messages=[4 * KIBIBYTE, 64 * KIBIBYTE],
    tensors=block_sizes(16),
    packs=[4 * KIBIBYTE, DEFAULT_PACK],
    fewest_rounds=2,
    most_rounds=2,
)


def measure(strategy: Any, sizes: Sizes = FULL) -> AllReduceCurve:
    """Measures every size once per round; a collective.

    Args:
        strategy: A tfdp strategy.
        sizes: What to measure. Defaults to tensors of 4 KiB to 64 MiB, and
            packs of 1 to 32 MiB, and one pack, of 41 MB of gradients; for 20
            seconds, but 7 rounds at least.

    Returns:
        The times as this worker saw them; of packs only where there are
        several workers, as these are what `TFDP_PACK_MIB` is for.

    Raises:
        ValueError: If there is one replica only.
    """
    check_replicas(strategy.num_replicas_in_sync)
    messages = {
        size: all_reducing(strategy, ones(strategy, [size]))
        for size in sizes.messages
    }
    packs = {}
    if strategy.num_workers > 1:
        gradients = ones(strategy, sizes.tensors)
        packs = {
            pack: all_reducing(strategy, gradients, pack)
            for pack in sizes.packs
        }
    # Every worker begins a trial when the others do.
    meet = messages[min(messages)]
    trials = [
        _trial(function, max(1, min(_MOST_CALLS, MEBIBYTE // size)), meet)
        for size, function in messages.items()
    ]
    trials += [_trial(function, 1, meet) for function in packs.values()]
    # The first call makes the graph.
    in_rounds(trials, 1)
    begin = time.perf_counter()
    in_rounds(trials, 1)
    round_seconds = all_gather(strategy, [time.perf_counter() - begin])
    seconds = in_rounds(trials, num_rounds(sizes, float(round_seconds.max())))
    own = iter(seconds)
    return AllReduceCurve(
        strategy.num_replicas_in_sync,
        {size: next(own) for size in messages},
        # TensorFlow packs the last gradients, which are there first, first.
        sizes.tensors[::-1] if packs else (),
        {pack: next(own) for pack in packs},
    )


def num_rounds(sizes: Sizes, round_seconds: float) -> int:
    """Returns how many rounds to measure.

    Args:
        sizes: What is measured.
        round_seconds: Time of a round.

    Example:

    >>> num_rounds(FULL, round_seconds=1.0), num_rounds(FULL, 0.01)
    (20, 30)
    """
    affordable = int(sizes.budget_seconds / round_seconds)
    return max(sizes.fewest_rounds, min(sizes.most_rounds, affordable))


def in_rounds(
    trials: Sequence[Callable[[], float]], rounds: int
) -> list[list[float]]:
    """Calls each of some functions once per round.

    Args:
        trials: Return a time in seconds.
        rounds: Number of rounds. Each begins with another function, so that
            none always follows the same one.

    Returns:
        What each function has returned, by round.

    Example:

    >>> count = iter(range(4))
    >>> in_rounds([lambda: next(count)] * 2, rounds=2)
    [[0, 3], [1, 2]]
    """
    seconds: list[list[float]] = [[] for _ in trials]
    for number in range(rounds):
        for place in range(len(trials)):
            turn = (place + number) % len(trials)
            seconds[turn].append(trials[turn]())
    return seconds


def _trial(
    function: Callable[[], object], calls: int, meet: Callable[[], object]
) -> Callable[[], float]:
    """Returns a function that returns the mean time of some calls."""

    def run() -> float:
        meet()
        begin = time.perf_counter()
        for _ in range(calls):
            function()
        return (time.perf_counter() - begin) / calls

    return run


def ones(
    strategy: Any, sizes: Sequence[int], dtype: tf.DType = tf.float32
) -> Any:
    """Returns tensors on every replica.

    Args:
        strategy: A tfdp strategy.
        sizes: Bytes of each tensor.
        dtype: Their type. Defaults to float32.
    """

    @tf.function
    def make() -> Any:
        return strategy.run(
            lambda: [tf.ones([size // dtype.size], dtype) for size in sizes]
        )

    # Called as it is, a new graph each time would be warned of.
    return make.get_concrete_function()()


def all_reducing(
    strategy: Any, tensors: Any, pack: int = 0
) -> Callable[[], float]:
    """Returns a function that sums tensors over all replicas, in a graph.

    Args:
        strategy: A tfdp strategy.
        tensors: What `ones` has returned.
        pack: Bytes asked for per pack. Defaults to 0, those of the strategy.

    Returns:
        A collective that returns when the sums are there, with the sum of
        the first element of each.
    """
    options = tf.distribute.experimental.CommunicationOptions(
        bytes_per_pack=pack
    )

    @tf.function
    def step(values: Any) -> Any:
        def on_replica(own: list[tf.Tensor]) -> tf.Tensor:
            # TensorFlow asks for the device, which arguments do not have.
            own = [tf.identity(each) for each in own]
            totals = tf.distribute.get_replica_context().all_reduce(
                tf.distribute.ReduceOp.SUM, own, options
            )
            return tf.add_n([total[0] for total in totals])

        return strategy.run(on_replica, args=(values,))

    def run() -> float:
        # A number has arrived only when the device is done.
        summed = step(tensors)
        return float(strategy.experimental_local_results(summed)[0])

    return run


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures on the cluster that this process belongs to.

    Args:
        arguments: Those of `tfdp.bench.probe`; and `--quick`, which measures
            little, for tests. Defaults to those of the process.

    Returns:
        The exit code: 0 where all was measured.
    """
    parser = probe.parser("tfdp.bench.all_reduce_trials")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(arguments)

    def examine(strategy: Any, say: probe.Say) -> bool:
        curve = measure(strategy, QUICK if options.quick else FULL)
        if strategy.is_chief:
            say(f"\n{curve}")
        return True

    return probe.run(examine, options.prefix)


if __name__ == "__main__":
    sys.exit(main())
