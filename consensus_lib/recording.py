"""The drop-in for loss.mean().backward(): one forward pass, statistics folded voter by voter.

    with record(model) as tape:
        losses = loss_fn(model(inputs), targets)     # (B,)
    report = tape.backward(losses, rule)             # adds the update to .grad

The gradient of a voter is an ordinary vector-Jacobian product on the graph of that forward
pass, so it is exact for any module, with shared weights summed over their uses and with the
dropout mask that made the losses. Gradients are gathered until they fill `chunk_bytes`, folded
into the statistics and forgotten: memory does not grow with the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from consensus_lib.preconditions import (
    require_one_device,
    require_one_loss_per_example,
    require_separate_examples,
    voter_indices,
)
from consensus_lib.report import Report, report_needs
from consensus_lib.rules import Rule
from consensus_lib.statistics import (
    GradientStatistics,
    Stack,
    Statistic,
    require_finite,
    widened,
)
from consensus_lib.updates import apply_update

__all__ = ["Tape", "backward", "record"]

LossFunction = Callable[[Tensor, Tensor], Tensor]
Voters = Sequence[int] | Tensor


@contextmanager
def record(model: nn.Module, chunk_bytes: int = 2**26) -> Iterator[Tape]:
    """Record the forward passes of `model` inside the `with` block.

    Args:
        model: any module whose examples do not see each other.
        chunk_bytes: how many bytes of voters' gradients may exist at once, at least one voter's.

    Yields:
        The tape, which can be read once: with `Tape.backward` or with `Tape.statistics`.

    Raises:
        ValueError: when a BatchNorm layer that normalizes over the batch is run; names it.
    """
    tape = Tape(model, chunk_bytes)
    hooks = [module.register_forward_pre_hook(tape._entered) for module in model.modules()]
    hooks += [module.register_forward_hook(tape._left) for module in model.modules()]
    try:
        yield tape
    finally:
        for hook in hooks:
            hook.remove()


class Tape:
    """The recording of a forward pass; `record` makes one."""

    def __init__(self, model: nn.Module, chunk_bytes: int) -> None:
        self._model = model
        self._chunk_bytes = chunk_bytes
        self._edges: list[GradientEdge] = []
        self._ran = False
        self._read = False

    def backward(self, losses: Tensor, rule: Rule, voters: Voters | None = None) -> Report:
        """Add the rule's update to the `.grad` of every trainable parameter.

        As after an ordinary backward pass the graph is freed. A parameter on which no loss
        depends gets an update of zeros.

        Args:
            losses: one loss an example, (B,), made by the recorded forward pass.
            rule: how to reduce the voters.
            voters: one integer id an example, (B,): examples of the same id cast one gradient,
                the mean of theirs. None makes every example a voter.

        Returns:
            The report: loss, consensus ratio, update ratio, floor.

        Raises:
            ValueError: for losses of a wrong shape or without a graph, an empty batch, voters
                of a wrong length, a model that was not run in the recording.
            RuntimeError: if the tape has been read before.
            FloatingPointError: for a loss or gradient that is not finite, naming the example or
                the voter and the parameter; `.grad` is as it was.
        """
        statistics = self.statistics(losses, report_needs(rule.needs), voters)
        updates = rule(statistics)
        report = Report(losses, statistics, updates)
        apply_update(self._model, updates)
        return report

    def statistics(
        self, losses: Tensor, needs: frozenset[Statistic], voters: Voters | None = None
    ) -> GradientStatistics:
        """The statistics of the voters' gradients; leaves `.grad` alone.

        Args:
            losses: as for `backward`.
            needs: which statistics to gather; of a rule, `rule.needs`.
            voters: as for `backward`.

        Returns:
            The statistics of every trainable parameter, ready to merge with others.

        Raises:
            As `backward`.
        """
        parameters = {n: p for n, p in self._model.named_parameters() if p.requires_grad}
        self._require_readable(losses, parameters)
        examples_of = voter_indices(voters, len(losses))
        self._read = True
        by_parameter: dict[str, dict[Statistic, Tensor]] = {name: {} for name in parameters}
        voter_bytes = sum(p.numel() * p.element_size() for p in parameters.values())
        chunk = max(1, self._chunk_bytes // voter_bytes)
        gathered: list[list[Tensor]] = []
        for voter, examples in enumerate(examples_of):
            last = voter == len(examples_of) - 1
            gathered.append(_gradients_of(examples, losses, parameters, keep_graph=not last))
            if voter == 0 and not last:
                self._require_no_contagion(losses, parameters, gathered[0], examples_of)
            if last or len(gathered) == chunk:
                first = voter + 1 - len(gathered)
                for name, stack in zip(parameters, zip(*gathered, strict=True), strict=True):
                    _fold(by_parameter[name], torch.stack(stack), needs, name, first)
                gathered.clear()
        self._edges.clear()
        dtypes = {name: p.dtype for name, p in parameters.items()}
        return GradientStatistics(len(examples_of), by_parameter, dtypes)

    def _entered(self, module: nn.Module, _inputs: object) -> None:
        require_separate_examples(self._model, module)
        self._ran = True

    def _left(self, _module: nn.Module, _inputs: object, output: object) -> None:
        if isinstance(output, Tensor) and output.requires_grad:
            self._edges.append(get_gradient_edge(output))

    def _require_no_contagion(
        self,
        losses: Tensor,
        parameters: dict[str, nn.Parameter],
        first_gradients: list[Tensor],
        examples_of: list[Tensor],
    ) -> None:
        """Blame the right voter for a gradient that is not finite.

        On the graph of a batch 0 x inf = nan, so that one bad example spoils the gradient of
        every voter, the first one's too. The rows of the layers' outputs do not mix, though.
        """
        if all(torch.isfinite(gradient).all() for gradient in first_gradients):
            return
        bad = torch.zeros(len(losses), dtype=torch.bool)
        for rows in torch.autograd.grad(
            losses.sum(), self._edges, retain_graph=True, allow_unused=True
        ):
            if rows is not None and rows.dim() and len(rows) == len(losses):
                bad |= ~torch.isfinite(rows).reshape(len(rows), -1).all(dim=1).cpu()
        blamed = [v for v, examples in enumerate(examples_of) if bad[examples].any()]
        for name, gradient in zip(parameters, first_gradients, strict=True):
            require_finite(gradient[None], name, first_voter=blamed[0] if blamed else 0)

    def _require_readable(self, losses: Tensor, parameters: dict[str, nn.Parameter]) -> None:
        require_one_loss_per_example(losses)
        if self._read:
            raise RuntimeError(
                "this tape has been read already: run the model again in a new record(model)"
            )
        if not self._ran:
            raise ValueError(
                "the model was not run inside the recording: call it in the block of "
                "`with record(model) as tape:`"
            )
        if not parameters:
            raise ValueError("the model has no trainable parameter: requires_grad is False for all")
        if not losses.requires_grad:
            raise ValueError(
                "the losses carry no graph: run the model and the loss without torch.no_grad() "
                "and without detach()"
            )
        finite = torch.isfinite(losses.detach())
        if not finite.all():
            example = int((~finite).nonzero()[0])
            raise FloatingPointError(
                f"the loss of example {example} is {losses[example].item()}: look at that example, "
                "or lower the learning rate"
            )


def _gradients_of(
    examples: Tensor,
    losses: Tensor,
    parameters: dict[str, nn.Parameter],
    keep_graph: bool,
) -> list[Tensor]:
    """The gradients of the mean loss of some examples, in the order of `parameters`."""
    weights = torch.zeros_like(losses)
    weights[examples.to(losses.device)] = 1 / len(examples)
    gradients = torch.autograd.grad(
        losses, list(parameters.values()), weights, retain_graph=keep_graph, allow_unused=True
    )
    if all(gradient is None for gradient in gradients):
        raise ValueError("the losses depend on no trainable parameter of the recorded model")
    return [
        torch.zeros_like(parameter) if gradient is None else gradient
        for parameter, gradient in zip(parameters.values(), gradients, strict=True)
    ]


def _fold(
    answers: dict[Statistic, Tensor],
    stack: Tensor,
    needs: frozenset[Statistic],
    name: str,
    first_voter: int,
) -> None:
    require_finite(stack, name, first_voter)
    found = Stack(widened(stack))
    for statistic in needs:
        answer = found[statistic]
        so_far = answers.get(statistic)
        answers[statistic] = answer if so_far is None else statistic.merge(so_far, answer)


def backward(
    model: nn.Module,
    loss_fn: LossFunction,
    inputs: Tensor | Sequence[Tensor],
    targets: Tensor | Sequence[Tensor],
    rule: Rule,
    voters: Voters | None = None,
) -> Report:
    """Forward pass, recording and backward pass in one call; adds the update to `.grad`.

    Args:
        model: any module whose examples do not see each other.
        loss_fn: (outputs, targets) -> one loss an example, (B,).
        inputs: (B, ...); or a list of groups of different shapes, [(B_1, ...), (B_2, ...), ...],
            whose examples together are the batch.
        targets: (B, ...) or the matching list.
        rule: how to reduce the voters.
        voters: one integer id an example, (B_1 + B_2 + ...,); a voter may have examples in
            several groups. None makes every example a voter.

    Returns:
        The report over all groups together.

    Raises:
        As `Tape.backward`; ValueError also if the groups do not match or are not on the
        model's device.
    """
    groups = _groups(inputs, targets)
    require_one_device(model, *(tensor for group in groups for tensor in group))
    # A voter with examples in several groups needs them on one tape; else each group can be
    # read by itself, so that only one group's graph exists at a time.
    tapes = [groups] if voters is not None else [[group] for group in groups]
    needs = report_needs(rule.needs)
    statistics, losses = None, []
    for on_tape in tapes:
        with record(model) as tape:
            losses_now = torch.cat([_losses(model, loss_fn, x, y) for x, y in on_tape])
        found = tape.statistics(losses_now, needs, voters)
        statistics = found if statistics is None else statistics.merge(found)
        losses.append(losses_now.detach())
    updates = rule(statistics)
    report = Report(torch.cat(losses), statistics, updates)
    apply_update(model, updates)
    return report


def _losses(model: nn.Module, loss_fn: LossFunction, inputs: Tensor, targets: Tensor) -> Tensor:
    losses = loss_fn(model(inputs), targets)
    require_one_loss_per_example(losses, batch_size=len(inputs))
    return losses


def _groups(
    inputs: Tensor | Sequence[Tensor], targets: Tensor | Sequence[Tensor]
) -> list[tuple[Tensor, Tensor]]:
    if isinstance(inputs, Tensor) and isinstance(targets, Tensor):
        inputs, targets = [inputs], [targets]
    if isinstance(inputs, Tensor) or isinstance(targets, Tensor) or len(inputs) != len(targets):
        raise ValueError("inputs and targets are two tensors, or two lists of equally many groups")
    if len(inputs) == 0:
        raise ValueError("an empty batch has no gradient: the list of groups is empty")
    for i, (x, y) in enumerate(zip(inputs, targets, strict=True)):
        if len(x) != len(y):
            raise ValueError(f"group {i} has {len(x)} inputs and {len(y)} targets")
    return list(zip(inputs, targets, strict=True))
