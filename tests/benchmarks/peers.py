"""The libraries beside ours, each as its own documentation says to use it.

Opacus and BackPACK give stacked per-example gradients, on which the consensus rule is then run.
TorchJD has rules of its own: GradDrop reads the whole Jacobian, and the autogram engine finds
the weights of UPGrad from the Gramian, without the Jacobian.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from tests.benchmarks.problems import Workload

__all__ = ["Stacks", "backpack_stacks", "opacus_stacks", "torchjd_graddrop", "torchjd_upgrad"]

# (inputs, targets) -> the gradients of each parameter in order, stacked: (B, *parameter.shape)
Stacks = Callable[[Tensor, Tensor], list[Tensor]]


def opacus_stacks(workload: Workload) -> Stacks:
    """GradSampleModule, read from `grad_sample`."""
    from opacus import GradSampleModule

    model = GradSampleModule(workload.model, loss_reduction="sum")
    parameters = list(workload.model.parameters())

    def stacks(inputs: Tensor, targets: Tensor) -> list[Tensor]:
        workload.loss_fn(model(inputs), targets).sum().backward()
        found = [parameter.grad_sample for parameter in parameters]
        for parameter in parameters:
            parameter.grad_sample = None
        return found

    return stacks


def backpack_stacks(workload: Workload) -> Stacks:
    """The extension BatchGrad, read from `grad_batch`."""
    from backpack import backpack, extend
    from backpack.extensions import BatchGrad

    model = extend(workload.model)
    parameters = list(model.parameters())

    def stacks(inputs: Tensor, targets: Tensor) -> list[Tensor]:
        loss = workload.loss_fn(model(inputs), targets).sum()
        with backpack(BatchGrad()):
            loss.backward()
        if unknown := {type(m).__name__ for m in model.modules() if _lacks_grad_batch(m)}:
            raise NotImplementedError(f"BatchGrad has no rule for {', '.join(sorted(unknown))}")
        found = [parameter.grad_batch for parameter in parameters]
        for parameter in parameters:
            del parameter.grad_batch
        return found

    return stacks


def _lacks_grad_batch(module: nn.Module) -> bool:
    return any(not hasattr(p, "grad_batch") for p in module.parameters(recurse=False))


def torchjd_graddrop(workload: Workload) -> Callable[[], None]:
    """The Jacobian of the losses by torchjd.autojac, reduced by gradient sign dropout."""
    from torchjd.aggregation import GradDrop
    from torchjd.autojac import backward, jac_to_grad

    parameters = list(workload.model.parameters())
    aggregator = GradDrop()

    def step() -> None:
        backward(workload.losses(), inputs=parameters)
        jac_to_grad(parameters, aggregator)

    return step


def torchjd_upgrad(workload: Workload) -> Callable[[], None]:
    """The Gramian by torchjd.autogram, the weights of UPGrad, and one weighted backward pass.

    Groups of different shapes are no batch to the engine: it then has batch_dim=None.
    """
    from torchjd.aggregation import UPGradWeighting
    from torchjd.autogram import Engine

    engine = Engine(workload.model, batch_dim=0 if len(workload.groups) == 1 else None)
    weighting = UPGradWeighting()

    def step() -> None:
        losses = workload.losses()
        losses.backward(weighting(engine.compute_gramian(losses)))

    return step
