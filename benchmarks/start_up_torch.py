"""One worker of torchrun that trains until its first update.

torchrun ... benchmarks/start_up_torch.py NETWORK FOLDER
"""

import os
import sys

from harness.marks import Marks

marks = Marks(sys.argv[2])

import torch  # noqa: E402
import torch.distributed  # noqa: E402
from harness.networks import inputs_and_labels  # noqa: E402
from torch import nn  # noqa: E402
from torch_networks import network_of  # noqa: E402

marks.note("importing")


def main(network):
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    marks.note("meeting")
    module = network_of(network)
    marks.note("building")
    parallel = nn.parallel.DistributedDataParallel(module)
    optimizer = torch.optim.SGD(parallel.parameters(), 0.01, momentum=0.9)
    x, y = map(torch.from_numpy, inputs_and_labels(network, rank))
    marks.note("agreeing")
    loss = nn.functional.cross_entropy(parallel(x), y.long())
    loss.backward()
    optimizer.step()
    marks.note("tracing, first step")
    marks.write(rank)
    torch.distributed.barrier()
    # Threads of gloo's may abort a process that ends in order.
    os._exit(0)


main(sys.argv[1])
