"""The checks of notebook 03: a fold over a stream, votes of a Linear layer, a like-minded batch."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import consensus_lib as cl
from course.checks.layer_rule import check_layer_rule
from course.checks.tensors import difference, kind
from course.checks.verdict import Verdict, asked, not_yet, right
from course.figures.costs import count_numbers

__all__ = ["check_fold", "check_layer_rule", "check_like_minded", "check_votes"]

Fold = Callable[[Iterator[Tensor]], tuple[Tensor, Tensor]]
VoteCounter = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]

TARGET = 0.5
EXAMPLES, INPUTS, HIDDEN, CLASSES = 64, 20, 30, 3

# Loose enough for the chunk at hand, the one before it, and minimum and maximum side by side.
_CHUNKS_ALIVE, _TIMES_A_CHUNK = 3, 4


def check_fold(function: Fold) -> Verdict:
    """Does function(stream) give mean and consensus (veto) without holding the stream?

    The stream yields chunks of per-example gradients, (n, ...), with n >= 1 not always the same.
    """
    for name, chunks in _STREAMS.items():
        answer = asked(function, (chunk.clone() for chunk in chunks), about=f"on {name}")
        if isinstance(answer, Verdict):
            return answer
        if not _is_pair(answer):
            return not_yet(f"on {name} it returned {kind(answer)}. Expected mean, consensus.")
        whole = torch.cat(chunks)
        expected = whole.mean(dim=0), cl.Consensus().reduce(whole)
        for what, got, wanted in zip(("mean", "consensus"), answer, expected, strict=True):
            if fault := difference(got, wanted):
                return not_yet(f"on {name} the {what} {fault}. {_fold_hint(what, got, chunks)}")
    many = torch.ones(40, 1, 6)
    watched = _Watched(many)
    largest = count_numbers(lambda: function(iter(watched))).largest
    if watched.alive > _CHUNKS_ALIVE or largest > _TIMES_A_CHUNK * many[0].numel():
        return not_yet(
            "both are right, but it holds the stream: fold each chunk into what you carry and let "
            "it go, else the memory grows with the batch."
        )
    return right("what you carry has the size of the weights, however long the stream is.")


_STREAMS = {
    name: tuple(torch.tensor(rows, dtype=torch.float64).split(size))
    for name, rows, size in (
        ("one chunk of three examples", [[0.4], [1.2], [0.3]], 3),
        ("chunks of 2 and 1 examples, all negative", [[-1.0], [-2.0], [-6.0]], 2),
        ("two chunks that oppose each other", [[1.0], [-1.0]], 1),
        ("chunks that disagree, then agree", [[1.0], [-1.0], [3.0], [2.0], [4.0]], 2),
        (
            "chunks of 2, 2 and 1 examples, two weights",
            [[1.0, -2.0], [3.0, -1.0], [2.0, -0.5], [5.0, 0.0], [0.5, -4.0]],
            2,
        ),
    )
}


class _Watched:
    """Yields chunks, and remembers how many were alive at a time."""

    def __init__(self, chunks: Tensor) -> None:
        self._chunks = chunks
        self.alive = 0

    def __iter__(self) -> Iterator[Tensor]:
        given: list[weakref.ref[Tensor]] = []
        for values in self._chunks:
            chunk = values.clone()
            given.append(weakref.ref(chunk))
            yield chunk
            del chunk
            self.alive = max(self.alive, sum(ref() is not None for ref in given))


def _fold_hint(what: str, got: Any, chunks: Sequence[Tensor]) -> str:
    whole = torch.cat(tuple(chunks))
    means = torch.stack([chunk.mean(dim=0) for chunk in chunks])
    if what == "mean":
        if not difference(got, means.mean(dim=0)):
            return "That is the mean of the chunks' means, and chunks have different sizes."
        if not difference(got, whole.sum(dim=0)):
            return "That is the sum: count the examples too."
        return "Carry the sum and the number of examples."
    if not difference(got, torch.zeros_like(whole[0])):
        return "A fold that starts from 0 starts from a conflict: start from the first chunk."
    if not difference(got, cl.Consensus().reduce(chunks[-1])):
        return "That is the consensus of the last chunk alone."
    return "Merge two answers as you merged two numbers in lesson 01; a conflict stays a conflict."


def check_votes(function: VoteCounter) -> Verdict:
    """Does function(inputs (B, in), grad_outputs (B, out)) count the votes of a Linear layer?

    The answer is (positive, negative), each (out, in): how many of a weight's B gradients are
    above and below 0. It must not write B numbers for each weight.
    """
    for name, (inputs, grad_outputs) in _layers().items():
        answer = asked(function, inputs.clone(), grad_outputs.clone(), about=f"for {name}")
        if isinstance(answer, Verdict):
            return answer
        if not _is_pair(answer):
            return not_yet(f"for {name} it returned {kind(answer)}. Expected positive, negative.")
        gradients = grad_outputs[:, :, None] * inputs[:, None, :]
        up, down = ((sign * gradients > 0).sum(dim=0).double() for sign in (1, -1))
        for what, got, wanted in zip(("positive", "negative"), answer, (up, down), strict=True):
            if fault := difference(got, wanted):
                return not_yet(f"for {name} '{what}' {fault}. {_votes_hint(*answer, up, down)}")
    written = count_numbers(lambda: function(inputs, grad_outputs)).written
    if written >= gradients.numel():
        return not_yet(
            f"the counts are right, but {written} numbers were written, and all the gradients are "
            f"{gradients.numel()}: use two products of the matrices (B, out) and (B, in)."
        )
    return right(
        f"{written} numbers were written, where all the gradients are {gradients.numel()}."
    )


def _layers() -> dict[str, tuple[Tensor, Tensor]]:
    """{name: (inputs, grad_outputs)}, the last one large enough to tell a product from a loop."""
    draw = torch.Generator().manual_seed(0)
    deltas = torch.tensor([[0.5], [-0.5]]).double()
    return {
        "2 examples, 3 inputs, 1 output": (
            torch.tensor([[1.0, -1.0, 2.0], [1.0, 1.0, -3.0]]).double(),
            deltas,
        ),
        "2 examples, one input of which is 0": (
            torch.tensor([[1.0, -1.0, 2.0], [1.0, 0.0, -3.0]]).double(),
            deltas,
        ),
        "64 examples, 20 inputs, 30 outputs, many of them 0": (
            torch.randint(-2, 3, (64, 20), generator=draw).double(),
            torch.randint(-2, 3, (64, 30), generator=draw).double(),
        ),
    }


def _votes_hint(first: Any, second: Any, up: Tensor, down: Tensor) -> str:
    if not difference(first, up.T) and not difference(second, down.T):
        return "It is the transpose: outputs are rows, as in the layer's weight."
    if not difference(first, up - down) or not difference(first, up + down):
        return "up - down and up + down are two matrix products: solve them for up and down."
    if not difference(first, down) and not difference(second, up):
        return "The two are exchanged."
    if not difference(first, up):
        return "Who does not vote up need not vote down: a gradient of 0 does neither."
    return "The sign of a product is the product of the signs, and 0 where one of them is 0."


def check_like_minded(inputs: Tensor, targets: Tensor) -> Verdict:
    """Do 64 different examples agree on more than half of a first layer's weights?

    The network is 20-30-3 with Tanh, and has the same weights in every call.

    Args:
        inputs: (64, 20), finite, no two rows alike.
        targets: (64,), classes 0, 1 or 2.
    """
    try:
        inputs, targets = inputs.detach().double(), targets.detach().long()
        fits = inputs.shape == (EXAMPLES, INPUTS) and targets.shape == (EXAMPLES,)
        fits = fits and bool(((targets >= 0) & (targets < CLASSES)).all())
    except Exception:
        fits = False
    if not fits:
        return not_yet("expected inputs (64, 20) and targets (64,), of the classes 0, 1 and 2.")
    if not inputs.isfinite().all():
        return not_yet("one of the inputs is not finite.")
    if len(inputs.unique(dim=0)) < EXAMPLES:
        return not_yet("some examples have the same inputs: all 64 must be different.")
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        layers = nn.Linear(INPUTS, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, CLASSES)
    model = nn.Sequential(*layers).double()
    with cl.record(model) as tape:
        losses = functional.cross_entropy(model(inputs), targets, reduction="none")
    share = tape.backward(losses, cl.Consensus()).by_parameter["0.weight"].consensus_ratio
    found = f"all {EXAMPLES} examples agree on {share:.1%} of the first layer's weights"
    if share <= TARGET:
        return not_yet(f"{found}; the target is more than {TARGET:.0%}.")
    return right(f"{found}. Who has more?")


def _is_pair(answer: Any) -> bool:
    return isinstance(answer, tuple | list) and len(answer) == 2
