"""The drop-in for loss.mean().backward(): one forward pass, one backward pass, statistics folded.

    with record(model) as tape:
        losses = loss_fn(model(inputs), targets)     # (B,)
    report = tape.backward(losses, rule)             # adds the update to .grad

While the model runs, the tape notes what each layer was called with. One backward pass then gives
the gradient of the summed losses by each layer's output, in which row i belongs to example i
alone. From these two a layer rule makes per-example gradients, a chunk at a time; they are folded
into the statistics and forgotten, so that memory does not grow with the batch. Parameters that no
layer rule accounts for get one ordinary vector-Jacobian product a voter: slow, but exact for any
module, with the dropout mask that made the losses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from consensus_lib import attention  # noqa: F401 - registers its layer rule
from consensus_lib.calls import Call, Component, components, unproven
from consensus_lib.folding import fold_component, fold_one_by_one
from consensus_lib.graph import count_uses
from consensus_lib.layers import read_call
from consensus_lib.preconditions import (
    require_one_device,
    require_one_loss_per_example,
    require_separate_examples,
    voter_indices,
)
from consensus_lib.report import Report, report_needs
from consensus_lib.rules import Rule
from consensus_lib.statistics import GradientStatistics, Stack, Statistic
from consensus_lib.updates import apply_update

__all__ = ["Tape", "backward", "record"]

LossFunction = Callable[[Tensor, Tensor], Tensor]
Voters = Sequence[int] | Tensor

# For each model, the kinds of recording that have been proved, and the parameters that failed.
_PROOFS: WeakKeyDictionary[nn.Module, dict[tuple[object, ...], set[str]]] = WeakKeyDictionary()


@contextmanager
def record(model: nn.Module, chunk_bytes: int = 2**22) -> Iterator[Tape]:
    """Record the forward passes of `model` inside the `with` block.

    Args:
        model: any module whose examples do not see each other.
        chunk_bytes: about how many bytes of per-example gradients may exist at once, but at
            least one example's. The default of 4 MiB stays within a core's cache.

    Yields:
        The tape, which can be read once: with `Tape.backward` or with `Tape.statistics`.

    Raises:
        ValueError: when a BatchNorm layer that normalizes over the batch is run; names it.
    """
    tape = Tape(model, chunk_bytes)
    hooks = [module.register_forward_pre_hook(tape._entered) for module in model.modules()]
    hooks += [
        module.register_forward_hook(tape._left, with_kwargs=True) for module in model.modules()
    ]
    try:
        yield tape
    finally:
        for hook in hooks:
            hook.remove()


class Tape:
    """The recording of a forward pass; `record` makes one."""

    def __init__(self, model: nn.Module, chunk_bytes: int) -> None:
        self._model = model
        self._chunk_floats = chunk_bytes // 4
        self._parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self._names = {id(p): name for name, p in self._parameters.items()}
        self._calls: list[Call] = []
        self._edges: list[GradientEdge] = []
        self._unused: list[str] = []
        self._span: tuple[int, int] | None = None
        self._ran = False
        self._read = False
        self._prove = True

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
            The report: loss, consensus ratio, update ratio, floor, and the parameters that took
            the slow way.

        Raises:
            ValueError: for losses of a wrong shape or without a graph, an empty batch, voters
                of a wrong length, a model that was not run in the recording.
            RuntimeError: if the tape has been read before, or the input of a layer was changed
                in place after the layer had read it.
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
        self._require_readable(losses)
        examples_of = voter_indices(voters, len(losses))
        self._read = True
        parts = self._backpropagate(losses, examples_of)
        answers: dict[str, dict[Statistic, Tensor]] = {}
        for part in parts:
            grouped = None if voters is None else examples_of
            answers |= fold_component(part, needs, grouped, len(losses), self._chunk_floats)
        for name in self._unused:
            nothing = Stack(torch.zeros_like(self._parameters[name])[None].detach())
            answers[name] = {need: nothing[need] for need in needs}
        exact = {n: p for n, p in self._parameters.items() if n not in answers}
        if exact:
            answers |= fold_one_by_one(
                losses,
                exact,
                examples_of,
                needs,
                self._chunk_floats,
                blame=lambda: self._first_bad_voter(losses, examples_of),
            )
        self._calls.clear()
        self._edges.clear()
        return GradientStatistics(
            len(examples_of),
            {name: answers[name] for name in self._parameters},
            {name: p.dtype for name, p in self._parameters.items()},
            tuple(exact),
        )

    def _entered(self, module: nn.Module, _inputs: object) -> None:
        require_separate_examples(self._model, module)
        self._ran = True

    def _left(self, module: nn.Module, args: tuple, kwargs: dict, output: object) -> None:
        if self._read:  # a checkpointed layer runs again while the tape is read
            return
        if isinstance(output, Tensor) and output.requires_grad:
            self._edges.append(get_gradient_edge(output))
        call = read_call(module, args, kwargs, output)
        if call is None or not call[2].requires_grad:
            return
        rule, inputs, outputs = call
        names = {
            local: self._names[id(p)]
            for local, p in module.named_parameters()
            if id(p) in self._names
        }
        first, size = self._span or (0, len(inputs))
        if names and len(inputs) == len(outputs) == size:
            edge, version = get_gradient_edge(outputs), inputs._version
            self._calls.append(
                Call(module, rule, names, inputs.detach(), version, edge, first, size)
            )

    def _backpropagate(self, losses: Tensor, examples_of: list[Tensor]) -> list[Component]:
        """One backward pass to the outputs of the recorded layers; what they account for."""
        calls = [c for c in self._calls if self._span is not None or c.size == len(losses)]
        uses = count_uses(losses)
        if not any(uses[key] for key in self._names):
            raise ValueError("the losses depend on no trainable parameter of the recorded model")
        self._unused = [name for key, name in self._names.items() if not uses[key]]
        explained: dict[str, int] = dict.fromkeys(self._parameters, 0)
        for call in calls:
            for name in call.names.values():
                explained[name] += 1
        shapes = {
            name: p.shape
            for name, p in self._parameters.items()
            if explained[name] and explained[name] == uses[id(p)]
        }
        parts = components(calls, shapes)
        return self._proved(losses, parts, examples_of) if parts else []

    def _proved(
        self, losses: Tensor, parts: list[Component], examples_of: list[Tensor]
    ) -> list[Component]:
        """The parts with the gradients of their outputs, less the parameters that fail a proof.

        The first recording of a kind is compared with one ordinary backward pass, in which every
        example has a weight of its own.
        """
        calls = [call for part in parts for call in part.calls]
        kind = tuple(
            (id(c.module), c.first, c.inputs.dim(), c.size in c.inputs.shape[1:]) for c in calls
        )
        proofs = _PROOFS.setdefault(self._model, {})
        streamed = [name for part in parts for name in part.shapes]
        failed = set() if not self._prove else proofs.get(kind)
        left = len(self._parameters) - len(streamed) - len(self._unused)
        keep = failed is None or left > 0 or bool(failed)
        self._differentiate(losses, calls, examples_of, keep)
        if failed is None:
            weights = 0.5 + (torch.arange(len(losses), device=losses.device) * 0.618034) % 1
            weights = weights.to(losses.dtype)
            gradients = torch.autograd.grad(
                losses, [self._parameters[n] for n in streamed], weights, retain_graph=True
            )
            expected = {n: g.to_dense() for n, g in zip(streamed, gradients, strict=True)}
            failed = unproven(parts, expected, weights, self._chunk_floats)
            if all(gradient.any() for gradient in expected.values()):  # 0 = 0 proves nothing
                proofs[kind] = failed
        for part in parts:
            part.shapes = {n: shape for n, shape in part.shapes.items() if n not in failed}
        return [part for part in parts if part.shapes]

    def _differentiate(
        self, losses: Tensor, calls: list[Call], examples_of: list[Tensor], keep_graph: bool
    ) -> None:
        gradients = torch.autograd.grad(
            losses.sum(), [call.edge for call in calls], retain_graph=keep_graph
        )
        for call, gradient in zip(calls, gradients, strict=True):
            if call.inputs._version != call.version:
                name = next(n for n, m in self._model.named_modules() if m is call.module)
                raise RuntimeError(
                    f"the input of layer '{name}' was changed in place after the layer had read "
                    "it: use the operation that is not in place"
                )
            call.grads = gradient
        # a sum is not finite if a part of it is not, and costs a tenth of asking every part
        if torch.stack([g.sum().double() for g in gradients]).isfinite().all():
            return
        for call in calls:
            bad = ~torch.isfinite(call.grads).reshape(call.size, -1).all(dim=1)
            if bad.any():
                voter = _voter_of(bad.nonzero().flatten() + call.first, examples_of)
                raise FloatingPointError(
                    f"the gradient of voter {voter} at parameter "
                    f"'{next(iter(call.names.values()))}' is not finite (it has a nan or inf): "
                    "look at that example and its loss, or lower the learning rate"
                )

    def _first_bad_voter(self, losses: Tensor, examples_of: list[Tensor]) -> int:
        """The first voter with an example whose row is not finite at the output of a layer."""
        for rows in torch.autograd.grad(
            losses.sum(), self._edges, retain_graph=True, allow_unused=True
        ):
            if rows is not None and rows.dim() and len(rows) == len(losses):
                bad = ~torch.isfinite(rows).reshape(len(rows), -1).all(dim=1)
                if bad.any():
                    return _voter_of(bad.nonzero().flatten(), examples_of)
        return 0

    def _require_readable(self, losses: Tensor) -> None:
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
        if not self._parameters:
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


def _voter_of(examples: Tensor, examples_of: list[Tensor]) -> int:
    bad = set(examples.tolist())
    return next(v for v, own in enumerate(examples_of) if bad & set(own.tolist()))


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
    losses: list[Tensor] = []
    with record(model) as tape:
        for x, y in groups:
            tape._span = (sum(map(len, losses)), len(x))
            losses.append(loss_fn(model(x), y))
            require_one_loss_per_example(losses[-1], batch_size=len(x))
    return tape.backward(torch.cat(losses), rule, voters)


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
