"""Who takes part: an ordinary step, ours by each rule, torch.func.vmap, and the peers.

A contender is prepared once for a workload and then makes the same step again and again:
forward pass, backward pass and rule, from empty `.grad` to filled `.grad`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

import consensus_lib as cl
from tests.benchmarks.peers import (
    Stacks,
    backpack_stacks,
    opacus_stacks,
    torchjd_graddrop,
    torchjd_upgrad,
)
from tests.benchmarks.problems import Workload

__all__ = ["CONTENDERS", "ORDINARY", "OURS", "Contender", "Step"]

Step = Callable[[], object]
ORDINARY = "ordinary"
OURS = "ours, consensus (veto)"


@dataclass(frozen=True)
class Contender:
    """One way to make a step.

    Attributes:
        prepare: workload -> step; called in the process that measures.
        rule: the rule whose update the step makes, to check it against; None: one of its own.
        is_ours: whether it is a step of this library.
        packages: what must be installed besides the course's requirements.
    """

    prepare: Callable[[Workload], Step]
    rule: cl.Rule | None
    is_ours: bool = False
    packages: tuple[str, ...] = ()


def _ordinary(workload: Workload) -> Step:
    return lambda: workload.losses().mean().backward()


def _recorded(workload: Workload, rule: cl.Rule) -> Step:
    if len(workload.groups) > 1:
        inputs, targets = (list(tensors) for tensors in zip(*workload.groups, strict=True))
        return partial(cl.backward, workload.model, workload.loss_fn, inputs, targets, rule)

    def step() -> None:
        with cl.record(workload.model) as tape:
            losses = workload.losses()
        tape.backward(losses, rule)

    return step


def _vmap_stacks(workload: Workload, chunk_size: int | None) -> Stacks:
    def stacks(inputs: Tensor, targets: Tensor) -> list[Tensor]:
        model, loss_fn = workload.model, workload.loss_fn
        return list(cl.per_example_gradients(model, loss_fn, inputs, targets, chunk_size).values())

    return stacks


def _materialised(workload: Workload, library: Callable[[Workload], Stacks]) -> Step:
    stacks = library(workload)
    rule = cl.Consensus()

    def step() -> None:
        by_group = [stacks(inputs, targets) for inputs, targets in workload.groups]
        for parameter in workload.model.parameters():
            stack = [of_group.pop(0) for of_group in by_group]
            parameter.grad = rule.reduce(stack[0] if len(stack) == 1 else torch.cat(stack))

    return step


def _ours(rule: cl.Rule) -> Contender:
    return Contender(partial(_recorded, rule=rule), rule, is_ours=True)


def _stacked(library: Callable[[Workload], Stacks], *packages: str) -> Contender:
    prepare = partial(_materialised, library=library)
    return Contender(prepare, cl.Consensus(), packages=packages)


CONTENDERS = {
    ORDINARY: Contender(_ordinary, cl.Mean()),
    OURS: _ours(cl.Consensus()),
    "ours, consensus (abstain)": _ours(cl.Consensus(zeros="abstain")),
    "ours, AND-mask": _ours(cl.AndMask()),
    "ours, agreement-weighted": _ours(cl.AgreementWeighted()),
    "ours, sign vote": _ours(cl.SignVote()),
    "ours, mean": _ours(cl.Mean()),
    "torch.func.vmap": _stacked(partial(_vmap_stacks, chunk_size=None)),
    "torch.func.vmap, chunks of 8": _stacked(partial(_vmap_stacks, chunk_size=8)),
    "Opacus": _stacked(opacus_stacks, "opacus"),
    "BackPACK": _stacked(backpack_stacks, "backpack"),
    "TorchJD GradDrop": Contender(torchjd_graddrop, None, packages=("torchjd",)),
    "TorchJD UPGrad, autogram": Contender(
        torchjd_upgrad, None, packages=("torchjd", "qpsolvers", "quadprog")
    ),
}
