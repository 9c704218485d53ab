"""Logs of runs that never were."""

import json
import math
import random

BEGIN = {
    "kind": "run",
    "time": 1000.0,
    "update": 0,
    "epoch": 0,
    "versions": {
        "tfdp": "0.1.0",
        "tensorflow": "2.21.0",
        "keras": "3.15.1",
        "python": "3.11.7",
    },
    "machine": "x86_64, 2 cores",
    "strategy": "MirroredStrategy",
    "workers": 1,
    "replicas": 2,
    "devices": ["CPU", "CPU"],
    "accumulation_steps": 4,
    "optimizer": "SGD",
    "unit": "samples",
    "parameters": 10240,
}
WORDS = (
    "communication is 61 % of a step; accumulation 4 would bring it to 28 %, "
    "at an effective batch of 1,024"
)


def write(folder, lines, tail=""):
    """Writes a log; returns its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "run.jsonl").write_text(text + tail, encoding="utf-8")
    return folder


def begin(**changes):
    return {**BEGIN, **changes}


def window(update, seconds=2.0, samples=100, **changes):
    return {
        "kind": "window",
        "time": 1000.0 + update,
        "epoch": 0,
        "update": update,
        "updates": 10,
        "worker": 0,
        "seconds": seconds,
        "samples": samples,
        **changes,
    }


def staleness(update, worker, histogram, **changes):
    return {
        "kind": "staleness",
        "time": 1000.0 + update,
        "epoch": 0,
        "update": update,
        "worker": worker,
        "max_staleness": 4,
        "updates": sum(histogram.values()),
        "skipped": 0,
        "staleness": histogram,
        "computing_seconds": 3.0 * (1 + worker),
        "room_seconds": 2.0 / (1 + worker),
        "lost": None,
        **changes,
    }


def trained(
    workers=1,
    replicas=2,
    updates=2000,
    every=20,
    epochs=4,
    begun=1.76e9,
    seed=0,
    max_staleness=None,
):
    """Yields the lines of a training that looks like a real one."""
    draw = random.Random(seed)
    bound = {"max_staleness": max_staleness, "workers": workers}
    yield begin(
        asynchronous=None if max_staleness is None else bound,
        time=begun,
        workers=workers,
        replicas=replicas,
        devices=["GPU"] * replicas,
        strategy=("MultiWorker" if workers > 1 else "") + "MirroredStrategy",
    )
    started = {"kind": "start", "time": begun - 9, "attempt": "a"}
    yield {**started, "launched": begun - 10, "workers": workers}
    now = begun + 3
    exchange = 0.0015 * math.log2(2 * replicas)
    scale, skipped = 32768.0, 0
    for update in range(every, updates + 1, every):
        epoch = (update - 1) * epochs // updates
        step = 0.0105 + exchange + draw.gauss(0, 0.0004)
        step += 0.008 * (draw.random() < 0.03)
        seconds = every * step
        now += seconds
        learned = math.exp(-update / (0.3 * updates))
        loss = 0.11 + 2.1 * learned + draw.gauss(0, 0.015)
        accuracy = 0.97 - 0.8 * learned + draw.gauss(0, 0.004)
        if draw.random() < 0.03:
            skipped += 1
            scale /= 2
        elif update % (25 * every) == 0:
            scale *= 2
        yield {
            "kind": "update",
            "time": now,
            "epoch": epoch,
            "update": update,
            "loss": loss,
            "accuracy": accuracy,
            "learning_rate": 0.1
            * min(1, update / (0.1 * updates))
            * (0.5 + 0.5 * math.cos(math.pi * update / updates)),
            "loss_scale": scale,
            "skipped_updates": skipped,
            "noise_scale": 90 + 400 * (1 - learned) + draw.gauss(0, 12),
        }
        for worker in range(workers):
            yield _measured(
                draw, now, epoch, update, every, worker,
                replicas // workers, seconds, exchange,
            )  # fmt: skip
        if update * epochs % updates == 0:
            yield {
                "kind": "epoch",
                "time": now,
                "epoch": epoch,
                "update": update,
                "seconds": 30.0,
                "loss": loss + 0.02,
                "accuracy": accuracy - 0.01,
                "val_loss": loss + 0.09 + 0.02 * epoch,
                "val_accuracy": accuracy - 0.02,
                "samples_per_second": 3000.0,
                "communication_fraction": 0.2,
            }
            if max_staleness is not None:
                for worker in range(workers):
                    yield staleness(
                        update,
                        worker,
                        {
                            str(stale): 200 // (1 + abs(stale - 2 * worker))
                            for stale in range(max_staleness + 1)
                        },
                        epoch=epoch,
                        max_staleness=max_staleness,
                    )
    yield {
        "kind": "end",
        "time": now + 1,
        "update": updates,
        "limit": "communication",
        "words": WORDS,
    }
    steps = now - begun - 3
    yield {
        "kind": "exit",
        "time": now + 2,
        "attempt": "a",
        "spent": {
            "starting": 8.0,
            "meeting": 1.0,
            "tracing": 3.0,
            "training": 0.8 * steps,
            "callbacks": 0.1 * steps,
            "validating": 0.07 * steps,
            "saving": 0.02 * steps,
        },
        "update": updates,
        "made": updates,
    }


def _measured(
    draw, now, epoch, update, updates, worker, replicas, seconds, exchange
):
    samples = 64 * updates
    own = seconds * (1 - 0.01 * draw.random())
    step = own / updates
    of_replicas = []
    for replica in range(replicas):
        fed = 0.0004 + 0.0008 * draw.random()
        waited = 0.001 * (replicas - replica) / replicas
        parts = {
            "input": fed,
            "compute": step - fed - waited - exchange - 0.0008,
            "waiting": waited,
            "communication": exchange,
            "other": 0.0008,
        }
        of_replicas.append(
            {
                "replica": worker * replicas + replica,
                "samples": samples,
                "samples_per_second": samples / own,
                **{f"{k}_seconds": updates * v for k, v in parts.items()},
                "memory_bytes": None,
            }
        )
    return {
        "kind": "window",
        "time": now,
        "epoch": epoch,
        "update": update,
        "updates": updates,
        "worker": worker,
        "seconds": own,
        "between_seconds": 0.01,
        "samples": samples * replicas,
        "samples_per_second": samples * replicas / own,
        "step_seconds": step,
        "step_seconds_p50": step * 0.98,
        "step_seconds_p95": step * (1.1 + 0.1 * draw.random()),
        "memory_bytes": 8.1e8 + 3e5 * math.sqrt(update),
        "flops_per_second": None,
        "bounds": ["waiting", "communication"] if replicas > 1 else [],
        "replicas": of_replicas,
    }
