"""One worker of torchrun that saves checkpoints, and stamps each update.

torchrun ... benchmarks/quick_return_torch.py NETWORK FOLDER
"""

import os
import pathlib
import sys

import torch
import torch.distributed
from harness.networks import inputs_and_labels
from harness.stamps import EVERY, Stamps
from torch import nn
from torch_networks import network_of


def save(path, **state):
    """Leaves a whole file, whenever this is killed."""
    written = path.with_suffix(".new")
    torch.save(state, written)
    os.replace(written, path)


def main(network, folder):
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    stamps = Stamps(folder, rank)
    path = pathlib.Path(folder) / "checkpoint.pt"
    parallel = nn.parallel.DistributedDataParallel(network_of(network))
    optimizer = torch.optim.SGD(parallel.parameters(), 0.01, momentum=0.9)
    update = 0
    if path.exists():
        state = torch.load(path)
        parallel.module.load_state_dict(state["module"])
        optimizer.load_state_dict(state["optimizer"])
        update = state["update"]
    x, y = map(torch.from_numpy, inputs_and_labels(network, rank))
    while True:
        loss = nn.functional.cross_entropy(parallel(x), y.long())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        update += 1
        stamps.update(update)
        if update % EVERY == 0 and rank == 0:
            save(
                path,
                module=parallel.module.state_dict(),
                optimizer=optimizer.state_dict(),
                update=update,
            )


main(*sys.argv[1:])
