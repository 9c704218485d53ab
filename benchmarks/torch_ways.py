"""PyTorch's ways to synchronise workers, and what each returns to step."""

import torch
from torch import distributed
from torch.distributed.algorithms.ddp_comm_hooks.post_localSGD_hook import (
    PostLocalSGDState,
    post_localSGD_hook,
)
from torch.distributed.algorithms.model_averaging.averagers import (
    PeriodicModelAverager,
)
from torch.distributed.optim import (
    PostLocalSGDOptimizer,
    ZeroRedundancyOptimizer,
)
from torch.nn.parallel import DistributedDataParallel

HERE = "localhost"
SETTINGS = {"lr": 0.01, "momentum": 0.9}


def by_way(module, way):
    """Returns what runs forward, and what steps, by a way's name.

    Args:
        module: The network.
        way: `"DDP"`, `"compiled"`, `"zero"`, `"post-local:4"` or
            `"torchft:4"`, the last two with the updates of a round.
    """
    name, _, period = way.partition(":")
    if name == "torchft":
        return module, _fault_tolerant(module, int(period))
    parallel = DistributedDataParallel(module)
    if name == "compiled":
        parallel = torch.compile(parallel)
    if name == "zero":
        return parallel, ZeroRedundancyOptimizer(
            parallel.parameters(), torch.optim.SGD, **SETTINGS
        )
    optimizer = torch.optim.SGD(parallel.parameters(), **SETTINGS)
    if name == "post-local":
        return parallel, _post_local(parallel, optimizer, int(period))
    return parallel, optimizer


def state_bytes(optimizer):
    """Returns how many bytes of slots, as momenta, this worker holds."""
    inner = getattr(optimizer, "optim", optimizer)
    return sum(
        slot.numel() * slot.element_size()
        for of_parameter in inner.state.values()
        for slot in of_parameter.values()
        if torch.is_tensor(slot)
    )


def _post_local(parallel, optimizer, period):
    # On CPUs its own groups must be given: each worker is one.
    workers = range(distributed.get_world_size())
    alone = [distributed.new_group([worker]) for worker in workers]
    state = PostLocalSGDState(
        None, alone[distributed.get_rank()], start_localSGD_iter=0
    )
    parallel.register_comm_hook(state, post_localSGD_hook)
    averager = PeriodicModelAverager(period=period, warmup_steps=0)
    return PostLocalSGDOptimizer(optimizer, averager)


def _fault_tolerant(module, period):
    from torchft import Manager, ProcessGroupGloo
    from torchft.coordination import LighthouseServer
    from torchft.local_sgd import LocalSGD

    optimizer = torch.optim.SGD(module.parameters(), **SETTINGS)
    workers, rank = distributed.get_world_size(), distributed.get_rank()
    told = [None]
    if rank == 0:
        optimizer.lighthouse = LighthouseServer(f"{HERE}:0", workers)
        told = [optimizer.lighthouse.address()]
    distributed.broadcast_object_list(told)
    # Each worker is a group of its own, which has a store of its own.
    optimizer.store = distributed.TCPStore(HERE, 0, is_master=True)
    manager = Manager(
        ProcessGroupGloo(),
        None,
        None,
        min_replica_size=workers,
        use_async_quorum=False,
        rank=0,
        world_size=1,
        store_addr=HERE,
        store_port=optimizer.store.port,
        lighthouse_addr=told[0],
        replica_id=f"worker_{rank}",
        hostname=HERE,
        init_sync=False,
    )
    optimizer.rounds = LocalSGD(manager, module, optimizer, period).__enter__()
    return optimizer
