"""What all-reduces cost by size and by pack: arithmetic and words.

No TensorFlow. What the terms mean:

- *bandwidth* is the bytes of the tensor that is summed, over the time; *bus*
  bandwidth is 2 (n - 1) / n times that for n replicas: what each of them sends
  in a ring, and so what a link carries, whatever the number of replicas. Both
  as defined by nccl-tests,
  https://github.com/NVIDIA/nccl-tests/blob/master/doc/PERFORMANCE.md
- a *pack* is what TensorFlow sums at a time: whole tensors of one type, one
  after the other, until they are more bytes than was asked for.
"""

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence

from tfdp.settings import DEFAULT_PACK

KIBIBYTE, MEBIBYTE = 2**10, 2**20
_NOISE = 1.05


@dataclasses.dataclass(frozen=True)
class AllReduceCurve:
    """Times of all-reduces in rounds; `str()` is a report with advice.

    In each round every size was measured once, so that those of a round had
    the same conditions.

    Attributes:
        num_replicas: Number of replicas on all workers; at least 2.
        message_seconds: Times of all-reduces of one tensor, one per round, by
            the bytes of the tensor.
        tensor_sizes: Bytes of tensors that were reduced together, in the
            order in which they were packed. Defaults to none.
        pack_seconds: Times of all-reduces of those tensors, one per round, by
            the bytes asked for per pack; with `DEFAULT_PACK` among them.
            Defaults to none.

    Raises:
        ValueError: If there are fewer than 2 replicas, a size without a time
            in every round, or packs without the default.

    Example:

    >>> print(
    ...     AllReduceCurve(
    ...         num_replicas=4,
    ...         message_seconds={4096: [0.001], 4 * MEBIBYTE: [0.02]},
    ...         tensor_sizes=[3 * MEBIBYTE] * 4,
    ...         pack_seconds={DEFAULT_PACK: [0.08], 16 * MEBIBYTE: [0.05]},
    ...     )
    ... )
    all-reduce of float32 over 4 replicas, medians of 1 round
    <BLANKLINE>
        tensor        time   bandwidth         bus
         4 KiB     1.00 ms    4.1 MB/s    6.1 MB/s
         4 MiB    20.00 ms    210 MB/s    315 MB/s
    <BLANKLINE>
    12.6 MB of gradients in 4 tensors, the largest of 3 MiB
    <BLANKLINE>
          pack       packs        time   bandwidth         bus     speedup
         2 MiB           4    80.00 ms    157 MB/s    236 MB/s     default
      one pack           1    50.00 ms    252 MB/s    377 MB/s        1.60
    <BLANKLINE>
    Recommended for gradients of this size: one pack, 1.60 times as fast as ...:
      TFDP_PACK_MIB=16 tfdp launch ...
    """

    num_replicas: int
    message_seconds: Mapping[int, Sequence[float]]
    tensor_sizes: Sequence[int] = ()
    pack_seconds: Mapping[int, Sequence[float]] = dataclasses.field(
        default_factory=dict
    )

    def __post_init__(self) -> None:
        """Checks that there is something to compare."""
        check_replicas(self.num_replicas)
        rounds = [len(seconds) for seconds in self._measured]
        if len(set(rounds)) != 1 or not all(rounds):
            raise ValueError(
                "Every size must be measured in every round. Received: "
                f"{rounds} times. Measure all sizes equally often, at least "
                "once."
            )
        if self.pack_seconds and DEFAULT_PACK not in self.pack_seconds:
            raise ValueError(
                "Packs must be compared with the default. Received: packs of "
                f"{list(self.pack_seconds)} bytes. Measure {DEFAULT_PACK} too."
            )

    @property
    def num_rounds(self) -> int:
        """How often each size was measured."""
        return len(self._measured[0])

    @property
    def speedups(self) -> dict[int, float]:
        """How many times as fast as the default each pack is, by its bytes."""
        return {
            pack: statistics.median(self._ratios(pack))
            for pack in self.pack_seconds
        }

    @property
    def recommended_pack(self) -> int:
        """Bytes of the fastest pack, or of the default.

        Another than the default is more than 5 % faster in the median of the
        rounds, and faster in three rounds of four.
        """
        speedups = self.speedups
        fastest = max(speedups, key=speedups.__getitem__, default=DEFAULT_PACK)
        if fastest == DEFAULT_PACK or speedups[fastest] <= _NOISE:
            return DEFAULT_PACK
        ratios = self._ratios(fastest)
        is_faster = sum(ratio > 1 for ratio in ratios) >= 0.75 * len(ratios)
        return fastest if is_faster else DEFAULT_PACK

    def __str__(self) -> str:
        """Returns the tables, and which pack to use."""
        rounds = f"{self.num_rounds} round{'s' if self.num_rounds > 1 else ''}"
        lines = [
            f"all-reduce of float32 over {self.num_replicas} replicas, "
            f"medians of {rounds}",
            "",
            _row("tensor", "time", "bandwidth", "bus"),
        ]
        lines += [
            _row(size_text(size), *self._speed(size, seconds))
            for size, seconds in self.message_seconds.items()
        ]
        if not self.pack_seconds:
            return "\n".join(lines)
        total = sum(self.tensor_sizes)
        lines += [
            "",
            f"{total / 1e6:.1f} MB of gradients in {len(self.tensor_sizes)} "
            f"tensors, the largest of {size_text(max(self.tensor_sizes))}",
            "",
            _row("pack", "packs", "time", "bandwidth", "bus", "speedup"),
        ]
        speedups = self.speedups
        for pack, seconds in self.pack_seconds.items():
            is_default = pack == DEFAULT_PACK
            lines.append(
                _row(
                    self._name(pack),
                    str(num_packs(self.tensor_sizes, pack)),
                    *self._speed(total, seconds),
                    "default" if is_default else f"{speedups[pack]:.2f}",
                )
            )
        return "\n".join([*lines, "", self._advice()])

    @property
    def _measured(self) -> list[Sequence[float]]:
        return [*self.message_seconds.values(), *self.pack_seconds.values()]

    def _advice(self) -> str:
        default = f"the default of {size_text(DEFAULT_PACK)}"
        best, speedups = self.recommended_pack, self.speedups
        if best == DEFAULT_PACK:
            return (
                f"Keep {default}: no other is faster by more than 5 % and in "
                "three rounds of four."
            )
        mebibytes = math.ceil(best / MEBIBYTE)
        return (
            f"Recommended for gradients of this size: {self._name(best)}, "
            f"{speedups[best]:.2f} times as fast as {default}:\n"
            f"  TFDP_PACK_MIB={mebibytes} tfdp launch ..."
        )

    def _name(self, pack: int) -> str:
        is_one = pack >= sum(self.tensor_sizes)
        return "one pack" if is_one else size_text(pack)

    def _ratios(self, pack: int) -> list[float]:
        return [
            default / own
            for default, own in zip(
                self.pack_seconds[DEFAULT_PACK],
                self.pack_seconds[pack],
                strict=True,
            )
        ]

    def _speed(self, size: int, rounds: Sequence[float]) -> list[str]:
        seconds = statistics.median(rounds)
        bandwidth = size / seconds
        bus = bus_bandwidth(size, seconds, self.num_replicas)
        return [
            f"{seconds * 1e3:,.2f} ms",
            _speed_text(bandwidth),
            _speed_text(bus),
        ]


def check_replicas(num_replicas: int) -> None:
    """Checks that there is another replica to reduce with.

    Args:
        num_replicas: Number of replicas on all workers.

    Raises:
        ValueError: If that is below 2.
    """
    if num_replicas < 2:
        raise ValueError(
            "An all-reduce needs at least 2 replicas. Received: "
            f"num_replicas={num_replicas}. Pass --workers 2, or start this on "
            "every worker, by srun or with TF_CONFIG."
        )


def bus_bandwidth(size: int, seconds: float, num_replicas: int) -> float:
    """Returns the bytes that each replica sends in a second, in a ring.

    Args:
        size: Bytes of the tensor that is summed.
        seconds: Time of the all-reduce.
        num_replicas: Number of replicas, n.

    Returns:
        `size / seconds * 2 * (n - 1) / n`, in bytes per second.

    Example:

    >>> bus_bandwidth(1000, seconds=0.5, num_replicas=4)
    3000.0
    """
    return size / seconds * 2 * (num_replicas - 1) / num_replicas


def num_packs(tensor_sizes: Sequence[int], pack: int) -> int:
    """Returns into how many packs TensorFlow groups tensors.

    Tensors stay whole, and a pack is closed when it is larger than asked for.
    See `group_by_size` in tensorflow/python/distribute/cross_device_utils.py.

    Args:
        tensor_sizes: Bytes of the tensors, in their order.
        pack: Bytes asked for per pack.

    Example:

    >>> num_packs([6, 6, 6, 20, 1], pack=10)
    3
    """
    packs, last = 0, 0
    for size in tensor_sizes:
        if not packs or last > pack:
            packs, last = packs + 1, 0
        last += size
    return packs


def size_text(size: int) -> str:
    """Returns a number of bytes in KiB or MiB.

    Example:

    >>> size_text(64 * 1024), size_text(9 * 2**18)
    ('64 KiB', '2.25 MiB')
    """
    if size < MEBIBYTE:
        return f"{size / KIBIBYTE:.3g} KiB"
    return f"{size / MEBIBYTE:.4g} MiB"


def _speed_text(bytes_per_second: float) -> str:
    megabytes = bytes_per_second / 1e6
    digits = 1 if megabytes < 10 else 0
    return f"{megabytes:,.{digits}f} MB/s"


def _row(first: str, *cells: str) -> str:
    return f"{first:>10}" + "".join(f"{cell:>12}" for cell in cells)
