"""Consensus over a batch that several processes share: each votes, and all take the same step.

    torchrun --nproc-per-node 3 examples/several_processes.py

With one GPU a process it runs on the GPUs, else on the CPU. On several machines torchrun takes
--nnodes and --rdzv-endpoint too; nothing here changes.
"""

from __future__ import annotations

import os

import torch
import torch.distributed as dist

# Making an optimizer imports this too, but by then it would hold on to the processes' group, and
# threads that outlive destroy_process_group() now and then abort a process that is done.
import torch.distributed.nn
from torch import Tensor, nn

import consensus_lib as cl


def started() -> torch.device:
    """Join the other processes; the device of this one."""
    local_rank = int(os.environ["LOCAL_RANK"])
    if torch.cuda.device_count() >= int(os.environ["LOCAL_WORLD_SIZE"]):
        torch.cuda.set_device(local_rank)
        dist.init_process_group("nccl")
        return torch.device("cuda", local_rank)
    dist.init_process_group("gloo")
    return torch.device("cpu")


def share_of_batch(device: torch.device) -> tuple[Tensor, Tensor]:
    """This process's part of a batch; the last process has two examples, the others three."""
    rank, world_size = dist.get_rank(), dist.get_world_size()
    inputs = torch.rand(3 * world_size - 1, 4, generator=torch.Generator().manual_seed(1))
    targets = inputs.sum(dim=1, keepdim=True)
    return inputs[rank::world_size].to(device), targets[rank::world_size].to(device)


def train(device: torch.device, steps: int = 31) -> nn.Module:
    """Train by consensus; no DistributedDataParallel, which would average the gradients."""
    torch.manual_seed(0)  # the same first weights everywhere
    model = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 1)).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    rule = cl.Consensus()
    inputs, targets = share_of_batch(device)

    for step in range(steps):
        optimizer.zero_grad()
        with cl.record(model) as tape:
            losses = (model(inputs) - targets).square().mean(dim=1)
        statistics = tape.statistics(losses, needs=rule.needs)
        statistics.all_reduce()
        cl.apply_update(model, rule(statistics))
        optimizer.step()

        total = losses.detach().sum()
        dist.all_reduce(total)
        if dist.get_rank() == 0 and step % 10 == 0:
            print(f"step {step:2}  loss {total.item() / statistics.count:.4f}", flush=True)
    return model


def require_same_weights(model: nn.Module) -> None:
    """Raise RuntimeError if a process has other weights than the first."""
    mine = nn.utils.parameters_to_vector(model.parameters()).detach()
    everyone = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(everyone, mine)
    for rank, theirs in enumerate(everyone):
        if not torch.equal(theirs, everyone[0]):
            raise RuntimeError(f"rank {rank} has other weights than rank 0")
    if dist.get_rank() == 0:
        print(f"{len(everyone)} processes, the same {mine.numel()} weights", flush=True)


if __name__ == "__main__":
    require_same_weights(train(started()))
    dist.destroy_process_group()
