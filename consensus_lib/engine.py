"""The stand-in for losses.mean().backward(): one forward pass, one backward pass, one update.

    with record(model) as tape:
        losses = loss_fn(model(inputs), targets)     # (B,)
    report = tape.backward(losses, rule)             # adds the update to .grad

While the model runs, each use of a tensor that all examples share gets a view of it, a node of its
own in the graph. One walk from the losses to these nodes then tells which parameters the recorded
operations account for, whatever made the tensor of them. One backward pass brings the gradient of
the summed losses by each operation's output, in which rows belong to examples. From these and
what went in follow per-example gradients, a chunk at a time; they are folded into statistics,
reduced to the update and forgotten before the next operation is reached, so that memory does not
grow with the batch. All other parameters take the exact way, with the dropout that made the losses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Literal

import torch
from torch import Tensor, nn

from consensus_lib.batch import set_aside, share_out
from consensus_lib.fallback import fold_one_by_one
from consensus_lib.folding import Folder
from consensus_lib.preconditions import (
    require_one_device,
    require_one_loss_per_example,
    require_separate_examples,
)
from consensus_lib.recorder import Recorder
from consensus_lib.report import Report, report_needs
from consensus_lib.rules import Rule
from consensus_lib.statistics import GradientStatistics, Piece, Statistic, not_finite, require_real
from consensus_lib.updates import accumulate

__all__ = ["Tape", "backward", "record"]

LossFunction = Callable[[Tensor, Tensor], Tensor]
Tensors = Tensor | Sequence[Tensor]
Voters = Sequence[int] | Tensor
Prove = Literal["auto", "always", "never"]


@contextmanager
def record(model: nn.Module, chunk_bytes: int = 2**23, prove: Prove = "auto") -> Iterator[Tape]:
    """Record what runs inside the `with` block.

    Args:
        model: any module; its trainable parameters get the update.
        chunk_bytes: about how many bytes of per-example gradients may exist at once, but at
            least one example's. The default is 8 MiB.
        prove: when to look whether the rows of a tensor belong to separate examples: "auto" at
            the first step, at growing distances, and whenever the recording looks different;
            "always" at every step; "never", where the caller knows.

    Yields:
        The tape, which can be read once: with `Tape.backward` or with `Tape.statistics`.

    Raises:
        ValueError: naming a layer that leaves no example a gradient of its own, as BatchNorm does
            in training, or that is wrapped for parallel training.
    """
    if prove not in ("auto", "always", "never"):
        raise ValueError(f"prove is 'auto', 'always' or 'never', not {prove!r}")
    tape = Tape(model, chunk_bytes, prove)
    with tape.recorder.listening():
        yield tape


class Tape:
    """The recording of a forward pass; `record` makes one, and says what its settings mean.

    `chunk` counts numbers; `compare` says whether formulas are compared with an ordinary pass.
    """

    def __init__(self, model: nn.Module, chunk_bytes: int = 2**23, prove: Prove = "auto") -> None:
        self.model, self.modules = model, require_separate_examples(model)
        self.chunk, self.prove, self.compare = max(1, chunk_bytes // 4), prove, True
        self.recorder = Recorder(self.modules)
        self.read = False

    def backward(self, losses: Tensor, rule: Rule, voters: Voters | None = None) -> Report:
        """Add the rule's update to the `.grad` of every trainable parameter.

        As after an ordinary backward pass the graph is freed. A parameter on which no loss
        depends gets an update of zeros. Tensors that are no parameters get no gradient.

        Args:
            losses: one loss an example, (B,), made in the recording.
            rule: how to reduce the voters.
            voters: one integer id an example, (B,): examples of the same id cast one gradient,
                the mean of theirs. None makes every example a voter.

        Raises:
            ValueError: for losses of a wrong shape or without a graph, an empty batch, voters
                of a wrong length, losses that depend on none of the model's parameters, or on
                trainable ones of another model.
            TypeError: for complex parameters.
            RuntimeError: if the tape has been read before, what an operation was given has been
                changed in place since, or a backward pass writes to `.grad` past the graph.
            FloatingPointError: for a loss or gradient that is not finite, naming the example or
                the voter and the parameter.
            In every case `.grad` is as it was.
        """
        return _backward([self], [losses], rule, voters)

    def statistics(
        self, losses: Tensor, needs: frozenset[Statistic], voters: Voters | None = None
    ) -> GradientStatistics:
        """The statistics of every trainable parameter, ready to merge; leaves `.grad` alone.

        Losses, voters and errors are those of `backward`; `needs` are the statistics to gather,
        of a rule `rule.needs`.
        """
        step = _Step([self], [losses], voters)
        found: dict[str, dict[Statistic, Tensor]] = {}
        step.gather(needs, lambda piece: found.update(piece.by_parameter()))
        return GradientStatistics(
            step.count,
            {name: found[name] for name in step.parameters},
            {name: p.dtype for name, p in step.parameters.items()},
            step.fallback,
        )


def backward(
    model: nn.Module,
    loss_fn: LossFunction,
    inputs: Tensors,
    targets: Tensors,
    rule: Rule,
    voters: Voters | None = None,
) -> Report:
    """Forward pass, recording and backward pass in one call; adds the update to `.grad`.

    Args:
        model: any module.
        loss_fn: (outputs, targets) -> one loss an example, (B,).
        inputs: (B, ...); or a list of batches of different shapes, [(B_1, ...), (B_2, ...), ...],
            whose examples together are the batch.
        targets: (B, ...) or the matching list.
        rule: how to reduce the voters.
        voters: one integer id an example, (B_1 + B_2 + ...,); a voter may have examples in
            several batches. None makes every example a voter.

    Raises:
        As `Tape.backward`; ValueError also for batches that do not match or on another device.
    """
    batches = _batches(inputs, targets)
    require_one_device(model, *(tensor for batch in batches for tensor in batch))
    tapes, losses = [], []
    for x, y in batches:
        tapes.append(Tape(model))
        with tapes[-1].recorder.listening() if len(x) > 1 else nullcontext():
            losses.append(loss_fn(model(x), y))
        require_one_loss_per_example(losses[-1], batch_size=len(x))
    return _backward(tapes, losses, rule, voters)


def _batches(inputs: Tensors, targets: Tensors) -> list[tuple[Tensor, Tensor]]:
    """The batches one by one, checked."""
    if isinstance(inputs, Tensor) and isinstance(targets, Tensor):
        inputs, targets = [inputs], [targets]
    if isinstance(inputs, Tensor) or isinstance(targets, Tensor) or len(inputs) != len(targets):
        raise ValueError("inputs and targets are two tensors, or two lists of equally many batches")
    if len(inputs) == 0:
        raise ValueError("an empty batch has no gradient: the list of batches is empty")
    for i, (x, y) in enumerate(zip(inputs, targets, strict=True)):
        if len(x) != len(y):
            raise ValueError(f"batch {i} has {len(x)} inputs and {len(y)} targets")
    return list(zip(inputs, targets, strict=True))


def _backward(
    tapes: Sequence[Tape], losses: Sequence[Tensor], rule: Rule, voters: Voters | None
) -> Report:
    """Gather, reduce, and add to `.grad`, over batches whose examples together are one."""
    step = _Step(tapes, losses, voters)
    report = Report(torch.cat(list(losses)), step.count, list(step.parameters))
    updates: dict[str, Tensor] = {}
    whole: dict[str, dict[Statistic, Tensor]] = {}

    def reduce(piece: Piece) -> None:
        update = rule.update(piece.answers, step.count)
        updates.update(piece.split(update))
        report.add(piece, update)

    if rule.weight_by_weight:
        step.gather(report_needs(rule.needs), reduce)
    else:
        step.gather(report_needs(rule.needs), lambda piece: whole.update(piece.by_parameter()))
        for name, parameter in step.parameters.items():
            reduce(Piece({name: parameter.shape}, whole[name]))
    report.fallback = step.fallback
    # products of finite numbers may overflow, which the rows of no operation show
    if not torch.stack([update.sum().float() for update in updates.values()]).isfinite().all():
        for name, update in updates.items():
            if not update.isfinite().all():
                raise not_finite(name)
    accumulate(tapes[0].model, {name: updates[name] for name in step.parameters})
    return report


class _Step:
    """Batches whose examples together are one, with N = `count` voters.

    Once they are gathered, `fallback` names the parameters that took one backward pass a voter.
    """

    def __init__(
        self, tapes: Sequence[Tape], losses: Sequence[Tensor], voters: Voters | None
    ) -> None:
        named = tapes[0].model.named_parameters()
        self.parameters = {name: p for name, p in named if p.requires_grad}
        if not self.parameters:
            raise ValueError("the model has no trainable parameter: requires_grad is False for all")
        for name, parameter in self.parameters.items():
            require_real(f"parameter '{name}'", parameter.dtype)
            if parameter.numel() == 0:
                raise ValueError(
                    f"parameter '{name}' has no weights, shape {tuple(parameter.shape)}: leave its "
                    "layer out, or freeze it with requires_grad_(False)"
                )
        self._chunk = tapes[0].chunk
        self._batches, self._spread, self.count = share_out(tapes, losses, voters)

    def gather(self, needs: frozenset[Statistic], give: Callable[[Piece], None]) -> None:
        """Give the statistics of every parameter, piece by piece.

        A voter who has a batch alone, or examples in several, takes an ordinary backward pass;
        all others are streamed.
        """
        streamed = [batch for batch in self._batches if batch.count > 1]
        alone = [voter for batch in self._batches if batch.count == 1 for voter in batch.voters]
        exact = alone + self._spread
        folder = Folder(needs, self._chunk, give, len(streamed) + bool(exact))
        with set_aside(self.parameters):
            for batch in self._batches:
                batch.walk(self.parameters)
            if exact:
                fold_one_by_one(exact, self.parameters, folder, keep=streamed)
            for batch in streamed:
                batch.fold(folder)
            folder.finish()
        self.fallback = tuple(name for name in self.parameters if name in folder.slow)
