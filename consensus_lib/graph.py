"""The autograd graph from the losses down to what the recorded operations shared."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.autograd.graph import GradientEdge, Node

__all__ = ["Graph"]

_HARMLESS = "BackwardHookFunctionBackward"  # of a module with a full backward hook


class Graph:
    """The nodes from the losses to the leaves; a cut is an alias of what all examples share.

    Attributes:
        users: {node: the nodes that take its output}, as far as the cuts.
        direct: {id(leaf): leaf} of the leaves that are met past no cut.
        below: {cut: {id(leaf): leaf}} of the cuts that are met and have no example below them.
        leaves: all of them, {id(leaf): leaf}.
        custom: whether a torch.autograd.Function of somebody's own is on the way.
        kind: what the graph looks like: equal for steps of the same make.
    """

    def __init__(self, losses: Tensor, cuts: set[Node]) -> None:
        """Walk the graph of the losses (B,); ValueError where reentrant checkpoints hide a part."""
        while True:
            met = self._walk(losses.grad_fn, cuts)
            below = {cut: self._leaves_below(cut) for cut in met}
            mixed = {cut for cut, leaves in below.items() if leaves is None}
            if not mixed:
                break
            cuts = cuts - mixed  # made of examples: no operand that all of them share
        self.below = below
        self.leaves = dict(self.direct)
        for leaves in below.values():
            self.leaves |= leaves

    def _walk(self, root: Node, cuts: set[Node]) -> set[Node]:
        """Note the nodes as far as the cuts; those that are met."""
        self.users: dict[Node, list[Node]] = {root: []}
        self.direct: dict[int, Tensor] = {}
        self.custom = False
        met: set[Node] = set()
        names: list[str] = []
        waiting = [root]
        while waiting:
            node = waiting.pop()
            names.append(node.name())
            self.custom |= isinstance(node, BackwardCFunction) and names[-1] != _HARMLESS
            for parent, _ in node.next_functions:
                if parent is None:
                    continue
                if parent in cuts:
                    met.add(parent)
                elif (users := self.users.get(parent)) is not None:
                    users.append(node)
                elif (leaf := getattr(parent, "variable", None)) is not None:
                    self.direct[id(leaf)] = leaf
                else:
                    self.users[parent] = [node]
                    waiting.append(parent)
        if "CheckpointFunctionBackward" in names:
            raise ValueError(
                "reentrant gradient checkpointing hides the graph of its layers: call "
                "torch.utils.checkpoint.checkpoint with use_reentrant=False"
            )
        self.kind = hash(tuple(names))
        return met

    def _leaves_below(self, cut: Node) -> dict[int, Tensor] | None:
        """{id(leaf): leaf} below a cut; None if examples are below it too."""
        leaves: dict[int, Tensor] = {}
        seen, waiting = {cut}, [cut]
        while waiting:
            for parent, _ in waiting.pop().next_functions:
                if parent is None or parent in seen:
                    continue
                if parent in self.users:
                    return None
                seen.add(parent)
                if (leaf := getattr(parent, "variable", None)) is not None:
                    leaves[id(leaf)] = leaf
                else:
                    waiting.append(parent)
        return leaves

    def earliest(self, nodes: Iterable[Node]) -> set[Node]:
        """Those of the nodes that depend on no other of them: behind all others on the way back."""
        found = set(nodes)
        later: set[Node] = set()
        waiting = list(found)
        while waiting:
            for user in self.users[waiting.pop()]:
                if user not in later:
                    later.add(user)
                    waiting.append(user)
        return found - later

    def first_bad_example(self, losses: Tensor) -> int | None:
        """The example at whose rows a backward pass first meets a nan or inf, if that is found."""
        bad: list[int] = []

        def look(gradients: tuple[Tensor | None, ...]) -> None:
            for g in gradients:
                if not bad and g is not None and g.dim() and len(g) == len(losses):
                    rows = ~torch.isfinite(g).reshape(len(g), -1).all(dim=1)
                    bad.extend(rows.nonzero().flatten().tolist())

        hooks = [node.register_prehook(look) for node in self.users]
        try:
            ends = [*self.leaves.values(), *(GradientEdge(cut, 0) for cut in self.met)]
            torch.autograd.grad(losses.sum(), ends, retain_graph=True, allow_unused=True)
        finally:
            for hook in hooks:
                hook.remove()
        return min(bad, default=None)
