"""Are rows examples, and are formulas right? Asked at the first step of a kind, and now and then.

*Rows.* If the loss of example i depends on the rows of example i alone, then the gradient of the
losses of some examples S is exactly 0.0 in the rows of all others: a zero stays zero through every
operation that keeps examples apart, in any precision. Whatever mixes them shows as a row that is
not. A first look takes sets S such that for each two examples i and j one set has i and not j;
later looks, at steps 2, 4, ..., 64 and every 64th, take one random half and the other.

*Formulas.* At the first step of a kind, sum_i w_i g_i by the formulas, with weights w_i that all
differ, is compared with one ordinary backward pass of sum_i w_i loss_i. A wrong formula, or a use
that was missed, cannot give the same sum.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from consensus_lib.folding import Part
from consensus_lib.grad_samplers import MODULE_SAMPLERS
from consensus_lib.statistics import widened

if TYPE_CHECKING:
    from consensus_lib.batch import Batch

__all__ = ["Kind", "compare_formulas", "decide_layouts", "kind_of"]

# As a share of the magnitudes that were summed: wide enough for rounding (tf32, and half
# precisions on the way), far too narrow for a missed use or a row of another example.
_TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-3}
_ROUGH = 0.1

_EVERY = 64
_LOTS = torch.Generator().manual_seed(0)  # of its own: torch's random state stays as it is


@dataclass
class Kind:
    """What is known of the recordings of a model that look alike.

    Attributes:
        layouts: for each call the layouts that no look has ruled out.
        unproved: calls whose gradients were all zero so far, or that have several layouts left.
        steps: how many recordings.
        looked: the number, among all of the model, of the last one that was looked at.
        compared, failed: names of the parameters whose formulas were compared, and were wrong.
    """

    layouts: list[tuple[str, ...]]
    unproved: set[int]
    steps: int = 0
    looked: int = 0
    compared: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)

    @property
    def due(self) -> bool:
        """Whether it is time to look again."""
        return self.steps % _EVERY == 0 or self.steps & (self.steps - 1) == 0


@dataclass
class _Model:
    """How many recordings a model has had, and their kinds."""

    recordings: int = 0
    kinds: dict[object, Kind] = field(default_factory=dict)


_MODELS: WeakKeyDictionary[nn.Module, _Model] = WeakKeyDictionary()


def kind_of(batch: Batch) -> Kind:
    """What is known of recordings that look like this one, which is counted."""
    modules = [
        (m.training, len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks))
        for m in batch.tape.modules
    ]
    layouts = [call.layouts for call in batch.calls]
    dims = [len(call.shape) for call in batch.calls]
    seen = (modules, MODULE_SAMPLERS.values(), batch.parameters, layouts, dims)
    looks = (batch.graph.kind, *map(tuple, seen))
    known = _MODELS.setdefault(batch.tape.model, _Model())
    if (kind := known.kinds.get(looks)) is None:
        kind = known.kinds[looks] = Kind(layouts, set(range(len(layouts))))
    known.recordings += 1
    kind.steps += 1
    return kind


def decide_layouts(batch: Batch, kind: Kind) -> None:
    """Set each call's layout; where a look is due, warn if examples have begun to be mixed."""
    calls, prove = batch.calls, batch.tape.prove
    everything = kind.due or prove == "always"
    asked = range(len(calls)) if everything else sorted(kind.unproved)
    asked = [i for i in asked if kind.layouts[i]] if prove != "never" else []
    changed: set[int] = set()
    live: set[int] = set()
    for chosen in _sets(batch.losses, kind, prove) if asked else ():
        edges, weights = [calls[i].edge for i in asked], chosen.to(batch.losses.dtype)
        rows = torch.autograd.grad(
            batch.losses, edges, weights, retain_graph=True, allow_unused=True
        )
        found = []
        for i, g in zip(asked, rows, strict=True):
            if g is not None:
                found.append((i, None, g.any()))
                for layout in kind.layouts[i]:
                    others = calls[i].arranged(g, layout)[~chosen]
                    found.append((i, layout, (others.abs() > 0).any()))  # a nan is no evidence
        flags = torch.stack([flag for *_, flag in found]).tolist() if found else []
        for (i, layout, _), flag in zip(found, flags, strict=True):
            if flag and layout is None:
                live.add(i)
            elif flag:
                if layout == kind.layouts[i][0] and i not in kind.unproved:
                    changed.add(i)
                kind.layouts[i] = tuple(other for other in kind.layouts[i] if other != layout)
        if not everything and not live:  # gradients of zero, as before
            break
    kind.unproved -= {i for i in live if len(kind.layouts[i]) < 2}
    for call, left in zip(calls, kind.layouts, strict=True):
        call.layout = left[0] if left else None
    known = _MODELS[batch.tape.model]
    if changed:
        known.kinds = {looks: k for looks, k in known.kinds.items() if k is kind}
        warnings.warn(
            f"an operation on parameter '{batch.name_of(calls[min(changed)])}' has begun to mix "
            f"the examples of a batch: updates since step {kind.looked + 1} of the "
            f"{known.recordings} recorded with this model may be wrong; from here on it takes the "
            "exact way, one backward pass a voter. To look at every step: record(model, "
            "prove='always')",
            stacklevel=5,
        )
    if everything:
        kind.looked = known.recordings


def _sets(losses: Tensor, kind: Kind, prove: str) -> Iterator[Tensor]:
    """Sets of examples, (B,) bool, whose losses are differentiated alone."""
    size = len(losses)
    order = torch.randperm(size, generator=_LOTS).to(losses.device)
    if kind.due and prove == "auto" and kind.steps > 1 and not kind.unproved:
        half = order < max(1, size // 2)
        yield from (half, ~half)
        return
    if not (kind.due or prove == "always"):
        yield torch.ones_like(order, dtype=torch.bool)
    # words of equal weight: of two of them, each has a one where the other has none
    length = next(m for m in itertools.count(2) if math.comb(m, m // 2) >= size)
    words = itertools.combinations(range(length), length // 2)
    code = torch.zeros(size, length, dtype=torch.bool)
    for row, ones in zip(code, words, strict=False):
        row[list(ones)] = True
    yield from code.to(losses.device)[order].T


def compare_formulas(batch: Batch, kind: Kind, parts: Sequence[Part], chunk: int) -> None:
    """Compare sum_i w_i g_i by formulas with an ordinary backward pass, and let `kind` know."""
    # by the golden ratio, so that no two are alike
    places = torch.arange(len(batch.losses), device=batch.losses.device)
    weights = (0.5 + (places * 0.618034) % 1).to(batch.losses.dtype)
    expected = batch.ordinary(weights)
    found: list[tuple[str, float, Tensor]] = []

    def take(part: Part) -> None:
        step = max(1, chunk // (2 * part.work(len(weights), copies=2)))
        sums: dict[tuple[str, bool], Tensor] = {}

        def add(name: str, magnitudes: bool, total: Tensor) -> None:
            total = total.abs() if magnitudes else total
            before = sums.get((name, magnitudes))
            sums[name, magnitudes] = total if before is None else before + total

        for own, magnitudes in itertools.product(range(0, len(weights), step), (False, True)):
            rows = slice(own, own + step)
            for name, g in part.gradients(rows, magnitudes).items():
                each = widened(weights)[rows].to(g.dtype)
                add(name, magnitudes, torch.tensordot(each, g, dims=1))
                if not magnitudes:  # a formula may lose magnitudes, as that of min(x, 0) does
                    add(name, True, torch.tensordot(each, g.abs(), dims=1))
        dtypes = {call.backprops.dtype for call in part.calls}
        for name in part.parameters:
            ours, bound, theirs = sums[name, False], sums[name, True], expected[name]
            theirs = torch.zeros_like(ours) if theirs is None else theirs.to_dense()
            roughest = max({*dtypes, theirs.dtype}, key=lambda dtype: torch.finfo(dtype).eps)
            if ours.numel():
                gap = (ours - theirs.to(ours.dtype)).abs().max()
                three = torch.stack([gap, bound.max(), theirs.isfinite().all().to(gap)])
                found.append((name, _TOLERANCE.get(roughest, _ROUGH), three.double()))

    batch.stream(parts, take, keep_graph=True)
    # looked at together, so that a device is waited for once
    rows = torch.stack([three for *_, three in found]).tolist() if found else []
    for (name, tolerance, _), (gap, largest, finite) in zip(found, rows, strict=True):
        if finite and not gap <= tolerance * largest:
            kind.failed.add(name)
        if finite and largest > 0:
            kind.compared.add(name)
