"""Throws faults at the workers of one training; is it one device's, and when?

`python tests/shared/soak.py 30` trains for about half an hour, and prints a
table.
"""

import argparse
import collections
import dataclasses
import itertools
import os
import pathlib
import statistics
import tempfile

import elastic
import launched_job
import torment

from tfdp.report import logged_goodput

EVERY_SECONDS = 24
TOLERANCE = 1e-5
# Of the updates that an undisturbed training would make in that time.
EXPECTED_SHARE = 0.8
MEBIBYTE = 2**20


@dataclasses.dataclass
class Result:
    """What has become of a training, and of the faults in it."""

    faults: list
    job: launched_job.Job
    exit_code: int
    left: list
    weights: float
    losses: float
    goodput: object

    @property
    def seconds(self):
        """From the first update to the last."""
        updates = self.job.updates
        return updates[-1].moment - updates[0].moment

    @property
    def useful(self):
        return len({each.number for each in self.job.updates})

    @property
    def twice(self):
        return len(self.job.updates) - self.useful

    @property
    def rate(self):
        return (self.useful - 1) / self.seconds

    def end_of(self, fault):
        """How the launcher has noticed it; `None` where it has not."""
        end = self.job.ends.get(fault.attempt)
        is_last = fault is max(
            (x for x in self.faults if x.attempt == fault.attempt),
            key=lambda each: each.moment,
        )
        return end if is_last else None

    def seconds_to_return(self, fault):
        later = (
            each.moment - fault.moment
            for each in self.job.updates
            if each.attempt > fault.attempt
        )
        return next(later, None)

    def seconds_with(self):
        """Seconds by number of workers; 0 between attempts."""
        spent = collections.Counter()
        for before, after in itertools.pairwise(self.job.updates):
            size = after.size if before.attempt == after.attempt else 0
            spent[size] += after.moment - before.moment
        return spent

    @property
    def wrongs(self):
        """What must not be, in words."""
        found = list(self.left)
        if self.exit_code:
            found.append(f"exit code {self.exit_code}")
        if not max(self.weights, self.losses) <= TOLERANCE:
            found.append(f"a difference of more than {TOLERANCE:.0e}")
        return found


def run(folder, optimizer, epochs, kinds=(), every=EVERY_SECONDS, log=None):
    """Trains to the end, with faults of these kinds."""
    with launched_job.Job(folder, optimizer, epochs, log) as job:
        tormentor = torment.Tormentor(job, kinds, every)
        tormentor.run()
        exit_code = job.exit_code()
        weights = losses = float("nan")
        if not exit_code:
            weights, losses = elastic.differences(
                folder, optimizer, epochs=epochs, samples=launched_job.SAMPLES
            )
        return Result(
            tormentor.faults,
            job,
            exit_code,
            job.left(),
            weights,
            losses,
            None if exit_code else logged_goodput(folder / "log")[0],
        )


def in_new_folder(*args, **kwargs):
    with tempfile.TemporaryDirectory() as created:
        return run(pathlib.Path(created), *args, **kwargs)


def epochs_in(seconds, rate):
    return max(
        round(seconds * rate / elastic.updates_of(1, launched_job.SAMPLES)), 1
    )


def row(result, kind):
    """A line of the table of faults."""
    faults = [each for each in result.faults if each.kind == kind]
    ends = [(each, result.end_of(each)) for each in faults]
    noticed = [(each, end) for each, end in ends if end is not None]
    words = collections.Counter(end.words for _, end in noticed)
    returns = [result.seconds_to_return(each) for each, _ in noticed]
    return [
        kind,
        len(faults),
        len(noticed),
        ", ".join(f"{word} ({n})" for word, n in words.most_common()),
        spread([end.moment - each.moment for each, end in noticed]),
        spread([each for each in returns if each is not None]),
    ]


def spread(seconds):
    if not seconds:
        return ""
    return f"{statistics.median(seconds):.1f}, {max(seconds):.1f}"


def tell(result, undisturbed):
    """Prints all that there is to say."""
    titles = ["fault", "thrown", "noticed", "as", "s to notice", "s to return"]
    rows = [row(result, kind) for kind in dict.fromkeys(torment.KINDS)]
    print("\nSeconds: the median, and the most.\n")
    for cells in [titles, ["---"] * len(titles), *rows]:
        print(f"| {' | '.join(map(str, cells))} |")
    minutes = result.seconds / 60
    print(
        f"\n{len(result.faults)} faults in {minutes:.1f} minutes, on "
        f"{os.cpu_count()} cores; {len(result.job.attempts)} attempts"
    )
    print(
        f"Updates: {result.useful}, and {result.twice} made twice; useful "
        f"{result.useful / len(result.job.updates):.2%}"
    )
    print(
        f"Throughput: {result.rate / undisturbed.rate:.1%} of undisturbed "
        f"({result.rate:.2f} of {undisturbed.rate:.2f} updates/s)"
    )
    print(f"By the log of the run, {result.goodput}")
    spent = result.seconds_with()
    shares = [
        f"{spent[size] / result.seconds:.1%} "
        + (f"with {size}" if size else "between attempts")
        for size in sorted(spent, reverse=True)
    ]
    print(f"Time, by workers: {', '.join(shares)}")
    names = ("Launcher", "Fork server")
    courses = zip(*result.job.sizes, strict=True)
    for name, sizes in zip(names, courses, strict=True):
        (memory, files), (last_memory, last_files) = sizes[0], sizes[-1]
        print(
            f"{name}: {memory / MEBIBYTE:.0f} → {last_memory / MEBIBYTE:.0f} "
            f"MiB, {files} → {last_files} open files"
        )
    print(f"Left over: {', '.join(result.left) or 'nothing'}")
    print(
        "Largest difference from one device: "
        f"weights {result.weights:.1e}, losses {result.losses:.1e}",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("minutes", type=float, nargs="?", default=30)
    # Adam takes rounding to 2e-2 in 11,000 updates, without any fault too.
    parser.add_argument("--optimizer", default="momentum")
    parser.add_argument(
        "--every", type=float, default=EVERY_SECONDS, help="seconds"
    )
    parser.add_argument(
        "--log", type=argparse.FileType("w"), help="what all of them say"
    )
    arguments = parser.parse_args()
    seconds = arguments.minutes * 60
    likely = 2 / launched_job.UPDATE_SECONDS
    undisturbed = in_new_folder(
        arguments.optimizer, epochs_in(max(seconds / 15, 20), likely)
    )
    epochs = epochs_in(seconds, undisturbed.rate * EXPECTED_SHARE)
    print(
        f"Undisturbed: {undisturbed.rate:.2f} updates/s, so "
        f"{epochs} epochs of {elastic.updates_of(1, launched_job.SAMPLES)}",
        flush=True,
    )
    kinds = itertools.cycle(torment.KINDS)
    result = in_new_folder(
        arguments.optimizer,
        epochs,
        kinds,
        every=arguments.every,
        log=arguments.log,
    )
    tell(result, undisturbed)
    if wrongs := undisturbed.wrongs + result.wrongs:
        raise SystemExit("\n".join(wrongs))


if __name__ == "__main__":
    main()
