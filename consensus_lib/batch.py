"""One recorded batch: its voters, its graph, and the pass that streams its gradients."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING
from weakref import WeakSet

import torch
from torch import Tensor, nn

from consensus_lib.fallback import fold_one_by_one
from consensus_lib.folding import Folder, Part, parts_of
from consensus_lib.graph import Graph
from consensus_lib.preconditions import require_readable_losses
from consensus_lib.proof import compare_formulas, decide_layouts, kind_of
from consensus_lib.recorder import Call
from consensus_lib.statistics import not_finite

if TYPE_CHECKING:
    from consensus_lib.engine import Tape

__all__ = ["Batch", "Voter", "set_aside", "share_out"]

_CHEAP = 4  # voters: for so many the exact way costs less than 3 ordinary steps
_SMALL = 2**16  # numbers: to wait with so few leaves the pass its cache
_WARNED: WeakSet[nn.Module] = WeakSet()


def share_out(
    tapes: Sequence[Tape], losses: Sequence[Tensor], voters: Sequence[int] | Tensor | None
) -> tuple[list[Batch], list[Voter], int]:
    """Share out the voters of several batches with losses (B_1,), (B_2,), ...

    Returns the batches, each with the voters that have all their examples there; the other
    voters; and how many voters there are. Raises for losses or ids that are none.
    """
    for own in losses:
        require_readable_losses(own)
    sizes = list(map(len, losses))
    numbers = range(sum(sizes)) if voters is None else _numbers(voters, sum(sizes))
    batches, end = [], 0
    for tape, own, size in zip(tapes, losses, sizes, strict=True):
        batches.append(Batch(tape, own, numbers[end : end + size]))
        end += size
    if voters is None:
        return batches, [], len(numbers)
    homes: dict[int, dict[Batch, list[int]]] = {}
    for batch in batches:
        for example, number in enumerate(batch.numbers):
            homes.setdefault(number, {}).setdefault(batch, []).append(example)
    for batch in batches:
        here = [homes[n][batch] for n in sorted(set(batch.numbers)) if len(homes[n]) == 1]
        order = torch.tensor([i for own in here for i in own], dtype=torch.int64)
        batch.members = list(order.to(batch.losses.device).split(list(map(len, here))))
    spread = [
        [(batch, torch.tensor(own, device=batch.losses.device)) for batch, own in home.items()]
        for home in homes.values()
        if len(home) > 1
    ]
    return batches, spread, len(homes)


def _numbers(voters: Sequence[int] | Tensor, size: int) -> list[int]:
    """For each example the number of its voter, in ascending order of the ids."""
    ids = torch.as_tensor(voters)
    if ids.shape != (size,):
        raise ValueError(
            f"voters has shape {tuple(ids.shape)}, but the batch has {size} examples: give one "
            f"voter id an example, shape ({size},)"
        )
    if ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
        raise TypeError(f"voter ids are integers, not {ids.dtype}")
    return ids.cpu().unique(return_inverse=True)[1].tolist()


@contextmanager
def set_aside(parameters: Mapping[str, Tensor]) -> Iterator[None]:
    """Within it no parameter has a `.grad`, nor hooks for one; afterwards they are as they were.

    Raises RuntimeError where a backward pass has written to a `.grad` all the same.
    """
    kept = [(p, p.grad, p._post_accumulate_grad_hooks) for p in parameters.values()]
    for p, _, hooks in kept:
        p.grad = None
        if hooks:
            p._post_accumulate_grad_hooks = OrderedDict()  # None would leave them in force
    try:
        yield
        written = next((name for name, p in parameters.items() if p.grad is not None), None)
    finally:
        for p, grad, hooks in kept:
            p.grad = grad
            if hooks:
                p._post_accumulate_grad_hooks = hooks
    if written is not None:
        raise RuntimeError(
            f"a backward pass wrote to the .grad of parameter '{written}' past the graph, as a "
            "torch.autograd.Function does whose backward calls backward(): no example's share can "
            "be told; return the gradient from it, or use torch.utils.checkpoint with "
            "use_reentrant=False"
        )


class Batch:
    """A batch of recorded losses and its voters.

    Attributes:
        tape: the recording.
        losses: (B,).
        numbers: for each example the number of its voter.
        members: for each voter that has all its examples here these, as indices; None: each
            example is a voter.
        parameters: {name: parameter} of all that train; known, as what follows, after `walk`.
        graph: from the losses to the leaves.
        calls: the recorded operations that the losses depend on.
    """

    def __init__(self, tape: Tape, losses: Tensor, numbers: Sequence[int]) -> None:
        self.tape, self.losses, self.numbers = tape, losses, numbers
        self.members: list[Tensor] | None = None

    @property
    def count(self) -> int:
        """How many voters it serves."""
        return len(self.losses if self.members is None else self.members)

    @property
    def voters(self) -> list[Voter]:
        """The voters that it serves."""
        if self.members is None:
            each = torch.arange(len(self.losses), device=self.losses.device).split(1)
            return [[(self, examples)] for examples in each]
        return [[(self, examples)] for examples in self.members]

    def walk(self, parameters: dict[str, nn.Parameter]) -> None:
        """Walk the graph; ValueError if losses depend on none of the parameters, or on others."""
        self.parameters = parameters
        self._names = {id(p): name for name, p in parameters.items()}
        if self.tape.read:
            raise RuntimeError(
                "this tape has been read already: run the model again in a new record(model)"
            )
        self.tape.read = True
        calls, self.tape.recorder.calls = self.tape.recorder.calls, []
        calls = [call for call in calls if call.belongs_to(len(self.losses))]
        self.graph = graph = Graph(self.losses, {u.alias for call in calls for u in call.uses})
        self.calls = [
            call
            for call in calls
            if call.edge.node in graph.users and any(u.alias in graph.below for u in call.uses)
        ]
        self._unused = {self._names[key] for key in self._names.keys() - graph.leaves.keys()}
        if len(self._unused) == len(parameters):
            raise ValueError(
                "the losses depend on no trainable parameter of the recorded model: compute them "
                "with the model that is recorded"
            )
        for key, leaf in graph.leaves.items():
            an_input = not isinstance(leaf, nn.Parameter) and len(self.losses) in leaf.shape
            if key not in self._names and not an_input:
                raise ValueError(
                    f"the losses depend on a trainable tensor of shape {tuple(leaf.shape)} that is "
                    "no parameter of the recorded model, and would get no gradient: record both "
                    "in one torch.nn.ModuleList, or detach() it"
                )
        if self._unused and graph.custom:  # whose backward may do what the graph does not show
            self.ordinary(torch.ones_like(self.losses))

    def fold(self, folder: Folder) -> None:
        """Tell the folder the statistics of all parameters; the graph is freed."""
        exact = self._stream_what_is_proved(folder) if self.calls else dict(self.parameters)
        for name in self._unused:
            folder.add_zeros(name, self.parameters[name])
            exact.pop(name, None)
        if not exact:
            return
        voters = self.voters
        fold_one_by_one(voters, exact, folder)
        folder.slow.update(exact)
        if len(voters) > _CHEAP and self.tape.model not in _WARNED:
            _WARNED.add(self.tape.model)
            warnings.warn(
                f"parameter {', '.join(map(repr, exact))} took the exact way, one backward pass "
                f"for each of {len(voters)} voters: right, but slow. Run the model in the "
                "recording, use the parameter in operations that have a formula (linear, "
                "convolution, embedding, normalization, + - * /), or give the formula of its "
                "module with consensus_lib.grad_sampler",
                stacklevel=6,
            )

    def _stream_what_is_proved(self, folder: Folder) -> dict[str, nn.Parameter]:
        """Stream all that operations account for; the parameters that are left."""
        for call in self.calls:
            if any(one.version != one.version_now() for one in call.uses):
                raise RuntimeError(
                    f"what an operation on parameter '{self.name_of(call)}' was given has been "
                    "changed in place since: use the operation that is not in place"
                )
        kind, tape = kind_of(self), self.tape
        decide_layouts(self, kind)
        parts, names = self._parts(kind.failed if tape.compare else set())
        if tape.compare and tape.prove != "never" and kind.due and names - kind.compared:
            compare_formulas(self, kind, parts, folder.chunk)
            if kind.failed & names:
                parts, names = self._parts(kind.failed)
        exact = {name: p for name, p in self.parameters.items() if name not in names}

        def take(part: Part) -> None:
            folder.take(part, self.members, len(self.losses))
            for call in part.calls:
                for one in call.uses:
                    one.activations = None

        sums = self.stream(parts, take, keep_graph=bool(exact.keys() - self._unused))
        # the pass met the last operations first; the first bad one is where it began
        if sums and not torch.cat([rows for _, rows in sums]).isfinite().all():
            call, rows = next((call, rows) for call, rows in sums if not rows.isfinite().all())
            example = int((~rows.isfinite()).nonzero()[0])
            raise not_finite(self.name_of(call), self.numbers[example])
        return exact

    def _parts(self, failed: set[str]) -> tuple[list[Part], set[str]]:
        """What can be streamed without parameters whose formulas failed, and its names."""
        made_of: dict[int, list[str]] = {}
        left = {id(p) for p in self.parameters.values() if p._backward_hooks}
        left |= self.graph.direct.keys()
        unexplained = dict(self.graph.below)
        for call in self.calls:
            for one in call.uses:
                unexplained.pop(one.alias, None)
                if (leaves := self.graph.below.get(one.alias)) is not None:
                    names = [self._names[key] for key in leaves if key in self._names]
                    made_of[id(one.operand)] = names
                    left |= leaves.keys() if call.layout is None else set()
        for leaves in unexplained.values():
            left |= leaves.keys()
        proved = {
            name: p
            for name, p in self.parameters.items()
            if id(p) not in left and name not in failed
        }
        parts = parts_of(self.calls, made_of, proved)
        return parts, {name for part in parts for name in part.parameters}

    def ordinary(self, weights: Tensor) -> dict[str, Tensor | None]:
        """{name: gradient of the weighted losses}; a `.grad` past the graph stays, to be found."""
        kept = [(leaf, leaf.grad) for leaf in self.graph.leaves.values()]
        try:
            torch.autograd.backward(self.losses, weights, retain_graph=True)
            return {name: p.grad for name, p in self.parameters.items()}
        finally:
            for leaf, grad in kept:
                leaf.grad = grad

    def stream(
        self, parts: Sequence[Part], take: Callable[[Part], None], keep_graph: bool
    ) -> list[tuple[Call, Tensor]]:
        """One backward pass of the summed losses: `take` gets each part when its backprops are in.

        What lies behind the earliest operations is not computed, nor are the gradients of
        weights. Returns each call with the sums (B,) of its rows: one that is not finite spoils it.
        """
        if not parts:
            return []
        part_of = {call: part for part in parts for call in part.calls}
        missing = {id(part): len(part.calls) for part in parts}
        sums: list[tuple[Call, Tensor]] = []
        ready: list[Part] = []

        def take_all() -> None:
            while ready:
                part = ready.pop(0)
                take(part)
                for call in part.calls:
                    call.backprops = None

        def arrived(call: Call, gradient: Tensor) -> None:
            call.backprops = call.arranged(gradient)
            wide = torch.promote_types(gradient.dtype, torch.float32)
            rows, dims = call.backprops, tuple(range(1, call.backprops.dim()))
            sums.append((call, rows.sum(dim=dims, dtype=wide) if dims else rows))
            part = part_of[call]
            missing[id(part)] -= 1
            if not missing[id(part)]:
                ready.append(part)
            if sum(c.backprops.numel() for part in ready for c in part.calls) > _SMALL:
                take_all()

        earliest = self.graph.earliest(call.edge.node for call in part_of)
        last = [call for call in part_of if call.edge.node in earliest]
        hooks = [
            call.edge.node.register_prehook(
                lambda gradients, call=call: arrived(call, gradients[call.edge.output_nr])
            )
            for call in part_of
            if call.edge.node not in earliest
        ]
        try:
            edges, ones = [call.edge for call in last], torch.ones_like(self.losses)
            gradients = torch.autograd.grad(self.losses, edges, ones, retain_graph=keep_graph)
        finally:
            for hook in hooks:
                hook.remove()
        for call, gradient in zip(last, gradients, strict=True):
            arrived(call, gradient)
        take_all()
        return sums

    def name_of(self, call: Call) -> str:
        """The name of a parameter that the operation uses."""
        leaves = (key for one in call.uses for key in self.graph.below.get(one.alias, ()))
        return next((self._names[key] for key in leaves if key in self._names), "")


Voter = list[tuple[Batch, Tensor]]  # batches, and which of their examples are the voter's
