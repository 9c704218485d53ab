"""One worker that trains a network with PyTorch's DistributedDataParallel.

python benchmarks/torch_worker.py NETWORK ACCUMULATION COMPRESSION [WAY]
"""

import contextlib
import resource
import statistics
import sys
import time

import torch
import torch.distributed
from harness.networks import inputs_and_labels
from harness.turns import serve
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch_networks import network_of
from torch_ways import by_way, state_bytes


def main(network, accumulation, compression, way="DDP"):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    module = network_of(network)
    parallel, optimizer = by_way(module, way)
    if compression != "none":
        hook = getattr(default_hooks, f"{compression}_compress_hook")
        parallel.register_comm_hook(None, hook)
    x, y = map(torch.from_numpy, inputs_and_labels(network, rank))
    y = y.long()
    losses = []

    def turn(steps):
        begin = time.perf_counter()
        for _ in range(steps):
            is_last = (len(losses) + 1) % accumulation == 0
            with contextlib.nullcontext() if is_last else parallel.no_sync():
                loss = nn.functional.cross_entropy(parallel(x), y)
                (loss / accumulation).backward()
            if is_last:
                optimizer.step()
                optimizer.zero_grad()
            losses.append(loss.item())
        seconds = time.perf_counter() - begin
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return {
            "seconds": seconds,
            "loss": statistics.mean(losses),
            "state": state_bytes(optimizer),
            "peak": peak,
        }

    serve(turn)


network, accumulation, *rest = sys.argv[1:]
main(network, int(accumulation), *rest)
