"""What the autograd graph tells: how often each parameter is used, and which layers come first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from torch import Tensor
from torch.autograd.graph import Node

__all__ = ["Graph"]


class Graph:
    """The operations on the way from the parameters to the losses.

    Attributes:
        uses: {id(parameter): how many operations take it as an input}. A layer call that uses
            its weight once adds one; more than the recorded calls explain means that the
            parameter is also used where no layer rule looks.
    """

    def __init__(self, losses: Tensor) -> None:
        """Walk the graph of the losses, (B,).

        Raises:
            ValueError: for reentrant gradient checkpointing, which hides its part of the graph.
        """
        self.uses: Counter[int] = Counter()
        self._users: dict[Node, list[Node]] = {losses.grad_fn: []}
        waiting = [losses.grad_fn]
        while waiting:
            node = waiting.pop()
            if node.name() == "CheckpointFunctionBackward":
                raise ValueError(
                    "reentrant gradient checkpointing hides the graph of its layers: call "
                    "torch.utils.checkpoint.checkpoint with use_reentrant=False"
                )
            for parent, _ in node.next_functions:
                if parent is None:
                    continue
                if (users := self._users.get(parent)) is not None:
                    users.append(node)
                elif (leaf := getattr(parent, "variable", None)) is not None:
                    self.uses[id(leaf)] += 1
                else:
                    self._users[parent] = [node]
                    waiting.append(parent)

    def __contains__(self, node: Node) -> bool:
        """Whether the losses depend on the operation."""
        return node in self._users

    def used_once(self, view: Node | None) -> bool:
        """Whether a view of a parameter, and each view that it is made of, has a single use."""
        while view is not None and not hasattr(view, "variable"):
            if len(self._users.get(view, ())) != 1:
                return False
            view = view.next_functions[0][0]
        return True

    def earliest(self, nodes: Iterable[Node]) -> set[Node]:
        """Those of the nodes that depend on no other of them.

        A backward pass that reaches these has passed all the others.
        """
        found = set(nodes)
        later: set[Node] = set()
        waiting = list(found)
        while waiting:
            for user in self._users[waiting.pop()]:
                if user not in later:
                    later.add(user)
                    waiting.append(user)
        return found - later
