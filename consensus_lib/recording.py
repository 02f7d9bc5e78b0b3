"""The drop-in for loss.mean().backward(): one forward pass, one backward pass, statistics folded.

    with record(model) as tape:
        losses = loss_fn(model(inputs), targets)     # (B,)
    report = tape.backward(losses, rule)             # adds the update to .grad

While the model runs, the tape notes what each layer was called with, and each sum or product with a
parameter that belongs to no layer. One backward pass then meets the gradient of the summed losses
by each of their outputs, in which row i belongs to example i alone. From these two a layer rule
makes per-example gradients, a chunk at a time; they are folded into the statistics, reduced to the
update and forgotten before the next layer is reached, so that memory does not grow with the batch.
Parameters that no layer rule accounts for get one ordinary vector-Jacobian product a voter: slow,
but exact for any module, with the dropout mask that made the losses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge
from torch.utils.hooks import RemovableHandle

from consensus_lib import attention, convolutions  # noqa: F401 - register their layer rules
from consensus_lib.calls import Call, Component, components
from consensus_lib.fallback import first_bad_voter, fold_one_by_one
from consensus_lib.folding import Folder
from consensus_lib.graph import Graph
from consensus_lib.layers import Use, has_rule, uses_in
from consensus_lib.operations import Operations, bare_parameters
from consensus_lib.preconditions import (
    may_mix_examples,
    require_one_device,
    require_one_loss_per_example,
    require_separate_examples,
    voter_indices,
)
from consensus_lib.proof import failed_parameters
from consensus_lib.report import Report, report_needs
from consensus_lib.rules import Rule
from consensus_lib.statistics import GradientStatistics, Piece, Stack, Statistic
from consensus_lib.streaming import OutputCheck, stream
from consensus_lib.updates import accumulate

__all__ = ["Tape", "backward", "record"]

LossFunction = Callable[[Tensor, Tensor], Tensor]
Voters = Sequence[int] | Tensor


@contextmanager
def record(model: nn.Module, chunk_bytes: int = 2**23) -> Iterator[Tape]:
    """Record the forward passes of `model` inside the `with` block.

    Args:
        model: any module whose examples do not see each other.
        chunk_bytes: about how many bytes of per-example gradients may exist at once, but at
            least one example's. The default is 8 MiB.

    Yields:
        The tape, which can be read once: with `Tape.backward` or with `Tape.statistics`.

    Raises:
        ValueError: when a layer is run that mixes the examples of a batch, as BatchNorm does in
            training; names it.
    """
    tape = Tape(model, chunk_bytes)
    hooks = tape._watch()
    bare = bare_parameters(model)
    try:
        with Operations(bare, tape._operated) if bare else nullcontext():
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
        groups = self._groups(losses, voters)
        needs = report_needs(rule.needs)
        report = Report(losses, len(groups or losses), list(self._parameters))
        updates: dict[str, Tensor] = {}

        def reduce(piece: Piece) -> None:
            update = rule.update(piece.answers, report.voters)
            updates.update(piece.split(update))
            report.add(piece, update)

        if rule.weight_by_weight:
            report.fallback = self._gather(losses, needs, groups, reduce)
        else:
            pieces: list[Piece] = []
            report.fallback = self._gather(losses, needs, groups, pieces.append)
            for piece in self._one_by_one(pieces):
                reduce(piece)
        accumulate(self._model, {name: updates[name] for name in self._parameters})
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
        groups = self._groups(losses, voters)
        pieces: list[Piece] = []
        fallback = self._gather(losses, needs, groups, pieces.append)
        return GradientStatistics(
            len(groups or losses),
            {name: piece.answers for piece in self._one_by_one(pieces) for name in piece.shapes},
            {name: p.dtype for name, p in self._parameters.items()},
            fallback,
        )

    def _groups(self, losses: Tensor, voters: Voters | None) -> list[Tensor] | None:
        """The examples of each voter, None if each example is one; the losses are looked at."""
        self._require_readable(losses)
        groups = None if voters is None else voter_indices(voters, len(losses))
        self._read = True
        return groups

    def _one_by_one(self, pieces: list[Piece]) -> list[Piece]:
        """A piece for each parameter, in the order of the model."""
        found = {name: a for piece in pieces for name, a in piece.by_parameter().items()}
        return [Piece({name: p.shape}, found[name]) for name, p in self._parameters.items()]

    def _watch(self) -> list[RemovableHandle]:
        """Hook every module that has something to tell."""
        hooks: list[RemovableHandle] = []
        for module in self._model.modules():
            if may_mix_examples(module):
                hooks.append(module.register_forward_pre_hook(self._entered))
            if module is self._model or has_rule(module) or module._parameters:
                hooks.append(module.register_forward_hook(self._left, with_kwargs=True))
        return hooks

    def _entered(self, module: nn.Module, _inputs: object) -> None:
        require_separate_examples(self._model, module)

    def _left(self, module: nn.Module, args: tuple, kwargs: dict, output: object) -> None:
        if self._read:  # a checkpointed layer runs again while the tape is read
            return
        self._ran = True
        first_output = output[0] if isinstance(output, tuple) and output else output
        if isinstance(first_output, Tensor) and first_output.requires_grad:
            self._edges.append(get_gradient_edge(first_output))
        uses = uses_in(module, args, kwargs, output)
        if not uses:
            return
        own = self._names_of(module)
        for use in uses:
            names = own
            if use.names is not None:
                names = {of: own[local] for of, local in use.names.items() if local in own}
            self._note(module, use, names)

    def _operated(self, module: nn.Module, local: str, use: Use, operand: Tensor) -> None:
        if not self._read:
            self._edges.append(use.edge)
            names = {local: self._names[id(module._parameters[local])]}
            self._note(module, use, names, operand.grad_fn)

    def _note(
        self, module: nn.Module, use: Use, names: dict[str, str], view: Node | None = None
    ) -> None:
        first, size = self._span or (0, len(use.inputs))
        if names and len(use.inputs) == size:
            self._calls.append(Call(module, use, names, first, size, view))

    def _names_of(self, module: nn.Module) -> dict[str, str]:
        """{local name: name in the model} of the trainable parameters of a module."""
        # a layer without layers inside needs no search
        own = module.named_parameters() if module._modules else module._parameters.items()
        return {local: self._names[id(p)] for local, p in own if id(p) in self._names}

    def _gather(
        self,
        losses: Tensor,
        needs: frozenset[Statistic],
        groups: list[Tensor] | None,
        give: Callable[[Piece], None],
    ) -> tuple[str, ...]:
        """Give the statistics of every parameter, piece by piece; who took the slow way."""
        graph = Graph(losses)
        if not any(graph.uses[key] for key in self._names):
            raise ValueError("the losses depend on no trainable parameter of the recorded model")
        parts = self._explained(losses, graph)
        if parts and self._prove:
            failed = failed_parameters(
                self._model, losses, graph, parts, self._parameters, self._chunk_floats
            )
            for part in parts:
                part.shapes = {n: shape for n, shape in part.shapes.items() if n not in failed}
            parts = [part for part in parts if part.shapes]
        streamed = {name for part in parts for name in part.shapes}
        unused = {name for key, name in self._names.items() if not graph.uses[key]}
        exact = {n: p for n, p in self._parameters.items() if n not in streamed and n not in unused}
        if parts:
            folder = Folder(needs, len(losses), groups, self._chunk_floats, give)
            check = OutputCheck()

            def take(part: Component) -> None:
                check.look(part)
                folder.take(part)

            stream(losses, graph, parts, take, keep_graph=bool(exact))
            folder.finish()
            check.require_finite(groups)
        for name in unused:
            nothing = Stack(torch.zeros_like(self._parameters[name])[None].detach())
            give(Piece({name: self._parameters[name].shape}, {n: nothing[n] for n in needs}))
        if exact:
            for piece in fold_one_by_one(
                losses,
                exact,
                voter_indices(None, len(losses)) if groups is None else groups,
                needs,
                self._chunk_floats,
                blame=lambda: first_bad_voter(losses, self._edges, groups),
            ):
                give(piece)
        self._calls.clear()
        self._edges.clear()
        return tuple(exact)

    def _explained(self, losses: Tensor, graph: Graph) -> list[Component]:
        """The components of the parameters of which every use is a recorded call."""
        calls = [
            call
            for call in self._calls
            if (self._span is not None or call.size == len(losses))
            and call.edge.node in graph
            and graph.used_once(call.view)
        ]
        explained: dict[str, int] = dict.fromkeys(self._parameters, 0)
        for call in calls:
            for name in call.names.values():
                explained[name] += 1
        shapes = {
            name: p.shape
            for name, p in self._parameters.items()
            if explained[name] and explained[name] == graph.uses[id(p)]
        }
        parts = components(calls, shapes)
        for call in (call for part in parts for call in part.calls):
            if call.inputs._version != call.version:
                name = next(n for n, m in self._model.named_modules() if m is call.module)
                raise RuntimeError(
                    f"the input of layer '{name}' was changed in place after the layer had read "
                    "it: use the operation that is not in place"
                )
        return parts

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
