"""Two workers, each on a core of its own: tfdp beside its peers.

    python benchmarks/two_workers.py [--quick]

tfdp, PyTorch's DistributedDataParallel on gloo, as it is and compiled, Keras 2
under TensorFlow's own strategy, and Keras 3 on JAX with its `DataParallel`
train the same network from the same weights on the same data, in turns. The
table shows medians, and samples per second over those of
DistributedDataParallel in float32 at the same accumulation. Losses must agree,
so that the work is the same. Plain Keras 3 does not run so.
"""

import argparse
import statistics

from harness.networks import BATCH
from harness.pair import pair
from harness.table import print_head, print_row
from harness.turns import in_turns, ratio_of_medians, ready
from peers import version_of

NETWORKS = ("dense", "convolutional", "transformer")
CONTESTANTS = {
    "DDP": ("torch", 1, "none"),
    "tfdp": ("tfdp", 1, "none"),
    "tfdp, gloo": ("tfdp", 1, "none", "gloo"),
    "DDP, compiled": ("torch", 1, "none", "compiled"),
    "Keras 2": ("tf_keras", 1, "none"),
    "Keras on JAX": ("jax", 1, "none"),
    "DDP, float16": ("torch", 1, "fp16"),
    "tfdp, bfloat16": ("tfdp", 1, "bfloat16"),
    "tfdp, float16": ("tfdp", 1, "float16"),
    "DDP ×8": ("torch", 8, "none"),
    "DDP ×8, compiled": ("torch", 8, "none", "compiled"),
    "tfdp ×8": ("tfdp", 8, "none"),
    "tfdp ×8, gloo": ("tfdp", 8, "none", "gloo"),
    "tfdp ×8, bfloat16": ("tfdp", 8, "bfloat16"),
}
# Whole cycles of eight.
STEPS = 16


def player(contestant, network):
    """Starts two workers of a contestant."""
    library, accumulation, compression, *way = CONTESTANTS[contestant]
    # Others of Keras as they are have neither.
    own = [accumulation, compression] if library in ("tfdp", "torch") else []
    if library == "torch":
        return pair(library, [network, *own, *way])
    communication = way[0] if way else "tensorflow"
    return pair(library, [network, *own], communication=communication)


def check_losses(answers):
    """Compares what is to be the same work."""
    for accumulation in {CONTESTANTS[name][1] for name in answers}:
        losses = {
            name: statistics.mean(each["loss"] for each in answer[-1])
            # Of batches that each worker makes itself, it logs the sum.
            / (2 if name == "Keras 2" else 1)
            for name, answer in answers.items()
            if CONTESTANTS[name][1] == accumulation
        }
        low, high = min(losses.values()), max(losses.values())
        if high - low > 0.01 * high:
            raise SystemExit(f"Losses differ: {losses}")


def measure(network, names, rounds):
    players = {name: player(name, network) for name in names}
    with ready(players):
        answers = in_turns(players, STEPS, rounds)
    check_losses(answers)
    seconds = {
        name: [
            max(each["seconds"] for each in answer) / STEPS
            for answer in answers[name]
        ]
        for name in names
    }
    for name in names:
        reference = "DDP" if CONTESTANTS[name][1] == 1 else "DDP ×8"
        if reference not in names:
            reference = names[0]
        ratio = ratio_of_medians(seconds[reference], seconds[name])
        middle = statistics.median(seconds[name])
        print_row(
            network,
            name,
            f"{middle * 1e3:.1f}",
            f"{2 * BATCH / middle:,.0f}",
            f"{ratio:.2f}",
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS)
    parser.add_argument(
        "--only",
        nargs="+",
        choices=CONTESTANTS,
        help="the first stands in for a DDP that is left out",
    )
    parser.add_argument("--rounds", type=int)
    arguments = parser.parse_args()
    networks = arguments.networks or NETWORKS[: 1 if arguments.quick else None]
    rounds = arguments.rounds or (3 if arguments.quick else 15)
    names = arguments.only or list(CONTESTANTS)
    used = {CONTESTANTS[name][0] for name in names} - {"tfdp"}
    print_head(
        *("network", "", "ms per micro-step", "samples/s", "over DDP"),
        more=[version_of(each) for each in sorted(used)],
    )
    for network in networks:
        measure(network, names, rounds)


if __name__ == "__main__":
    main()
