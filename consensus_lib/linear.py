"""Why the votes of a Linear layer factorise: its statistics without its per-example gradients.

Of activations (B, in) and backprops (B, out) the gradient of example b is an outer product,
g_b = backprop_b activation_b^T. Signs and powers of products are products of signs and powers, so
that sums of them are matrix products:

    sum_b sign(g_b) = sign(backprops)^T sign(activations)

Least magnitudes are no sums, but consensus asks for them only where all examples agree, and these
weights are few: an activation that is 0 for any example rules out its column, a backprop its row,
and a few dozen examples rule out nearly all that is left. To find them takes looks at numbers,
which cost nothing on the CPU only; elsewhere least magnitudes are folded.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, cached_property

import numpy as np
import torch
from torch import Tensor

from consensus_lib.statistics import (
    Agreed,
    Least,
    LogPowerSum,
    RunningStatistics,
    Statistic,
    Sum,
    Touched,
    Unopposed,
    Votes,
    looks_are_free,
    minmod,
)

__all__ = ["outer_product_statistics"]

_MANY = 0.15  # above this share of weights, to fold the outer products is faster
_SOME = 32  # so many examples are hardly ever unanimous, which spares the votes of the others
_FEW = 64  # so many examples mostly touch every weight, which spares a look at the others
_CACHED = 2**16  # so many numbers stay in a core's cache, and their memory is soon used again
_LEAST_LOG = -600.0  # its exponential is a normal number in float64


def outer_product_statistics(
    activations: Tensor, backprops: Tensor, needs: frozenset[Statistic], chunk: int
) -> dict[Statistic, Tensor]:
    """Statistics of the B outer products backprop_b activation_b^T.

    What neither a matrix product nor a look gives is folded from the outer products themselves.

    Args:
        activations: (B, in).
        backprops: (B, out), in the same floating dtype.
        needs: which statistics.
        chunk: how many numbers of outer products may exist at once.

    Returns:
        {statistic: (out, in)}, where equal numbers may be a view of one.
    """
    outer = _OuterProducts(activations, backprops, chunk)
    answers = {need: outer.without_folding(need) for need in needs}
    rest = frozenset(need for need, answer in answers.items() if answer is None)
    return answers | outer.folded(rest) if rest else answers


class _OuterProducts:
    """The outer products of a layer, and what several of their statistics need."""

    def __init__(self, activations: Tensor, backprops: Tensor, chunk: int) -> None:
        self.x, self.g, self.chunk = activations, backprops, chunk
        self.shape = torch.Size((backprops.shape[1], activations.shape[1]))

    def without_folding(self, need: Statistic) -> Tensor | None:
        """A statistic, (out, in); None if to fold it is faster, or all there is."""
        match need:
            case Sum():
                return self.g.T @ self.x
            case Votes():
                return self.votes()
        if looks_are_free(self.x):
            match need:
                case Agreed():
                    return self.agreed()
                case Unopposed():
                    return self.unopposed()
                case Touched():
                    return self.touched()
                case Least():
                    return self.where_nothing_is_zero(need)
                case LogPowerSum():
                    return self.log_power_sum(need.p)
        return None

    def folded(self, needs: frozenset[Statistic]) -> dict[Statistic, Tensor]:
        """Statistics by the outer products themselves, a chunk of examples at a time.

        A chunk is written once and read once for each extreme; one of the default size stays in
        the cache of a current card, so that little of this reaches its memory.
        """
        running = RunningStatistics(needs)
        rows = max(1, self.chunk // self.shape.numel())
        for g, x in zip(self.g.split(rows), self.x.split(rows), strict=True):
            running.add(g.unsqueeze(2) * x.unsqueeze(1))
        return running.answers()

    def votes(self) -> Tensor:
        """`Votes`, a product of signs."""
        return _product(*(_int8(tensor.sign()) for tensor in (self.g, self.x)))

    @cached_property
    def nonzero(self) -> tuple[Tensor, Tensor]:
        """1 where the backprops (B, out) and the activations (B, in) are not 0, in int8."""
        return _int8(self.g.bool()), _int8(self.x.bool())

    @cached_property
    def always(self) -> tuple[Tensor, Tensor]:
        """The rows and columns in which no example is 0."""
        found = (tensor.amin(dim=0).numpy() for tensor in self.nonzero)
        rows, columns = (torch.from_numpy(np.flatnonzero(kept)) for kept in found)
        return rows, columns

    @cached_property
    def voters(self) -> Tensor:
        """How many examples are not 0 at each weight: (out, in), or (out, 1) or (1, in)."""
        return self.voters_among(len(self.x))

    def voters_among(self, count: int) -> Tensor:
        """`voters` of the first examples."""
        g, x = (tensor[:count] for tensor in self.nonzero)
        rows, columns = map(len, self.always)
        if columns == self.shape[1]:  # as in a first layer: no need for a matrix product
            return g.sum(dim=0, dtype=torch.int32)[:, None]
        if rows == self.shape[0]:  # as in a last one
            return x.sum(dim=0, dtype=torch.int32)[None]
        return _product(g, x)

    def touched(self) -> Tensor:
        """`Touched`, by a few examples if they touch all that can be touched."""
        few = self.voters if len(self.x) <= _FEW else self.voters_among(_FEW)
        if few.shape != self.shape:
            return self.voters.bool().expand(self.shape)
        touched = few.bool()
        rows, columns = (tensor.amax(dim=0).sum() for tensor in self.nonzero)
        return (
            touched if np.count_nonzero(touched.numpy()) == rows * columns else self.voters.bool()
        )

    def agreed(self) -> Tensor:
        """`Agreed`, by the magnitudes of the few weights at which so far all agree."""
        rows, columns = self.always
        if not (len(rows) and len(columns)):
            return self.everywhere(0.0)
        # who is not unanimous among some is not unanimous among all
        g, x = (_columns(t[:_SOME], own) for t, own in ((self.g, rows), (self.x, columns)))
        where = _places(_product(_int8(g.sign()), _int8(x.sign())).abs_(), len(g))
        if not len(where):
            return self.everywhere(0.0)
        if len(where) > _MANY * self.shape.numel():
            return self.where_nothing_is_zero(Agreed())
        rows, columns = rows[where // len(columns)], columns[where % len(columns)]
        products = self.products(rows, columns)
        found = [minmod(p.amin(dim=1), p.amax(dim=1)) for p in products]
        return self.x.new_zeros(self.shape).index_put_((rows, columns), torch.cat(found))

    def where_nothing_is_zero(self, need: Statistic) -> Tensor:
        """A statistic that is 0 where any example is, folded from the rows and columns without."""
        rows, columns = self.always
        if not (len(rows) and len(columns)):
            return self.everywhere(0.0)
        inner = _OuterProducts(_columns(self.x, columns), _columns(self.g, rows), self.chunk)
        found = inner.folded(frozenset({need}))[need]
        if inner.shape == self.shape:
            return found
        return self.x.new_zeros(self.shape).index_put_((rows[:, None], columns), found)

    def unopposed(self) -> Tensor | None:
        """`Unopposed`, by the magnitudes of the few weights whose voters are on one side."""
        # 0 where all voters are on one side, and where there is none; below 0 elsewhere
        where = _places(self.votes().abs_().sub_(self.voters), 0)
        if not len(where):
            return self.everywhere(torch.inf)
        answer = self.x.new_full((self.shape.numel(),), torch.inf).index_fill_(0, where, 0.0)
        if self.voters.amin() == 0:
            voters = self.voters.expand(self.shape)
            where = where[voters[where // self.shape[1], where % self.shape[1]] > 0]
        if len(where) > _MANY * len(answer):
            return None
        signed = [self.x.new_empty(0)]
        for p in self.products(where // self.shape[1], where % self.shape[1]):
            side = p.sum(dim=1).sign_()
            signed.append(torch.threshold_(p.abs_(), 0.0, torch.inf).amin(dim=1).mul_(side))
        # a product that is too small for its dtype is 0, and inf x 0 is nan
        answer.index_copy_(0, where, torch.cat(signed).nan_to_num_(0.0))
        return answer.view(self.shape)

    def log_power_sum(self, p: float) -> Tensor | None:
        """`LogPowerSum` as a matrix product of powers, each scaled to at most 1."""
        logs = [tensor.abs().double().log() for tensor in (self.g, self.x)]
        if p == 0:
            of_g, of_x = (log.sum(dim=0) for log in logs)
            return of_g[:, None] + of_x
        tops = [(p * log).amax(dim=0) for log in logs]
        # an infinite top stays the sum's whatever it is added to
        logs = [
            torch.where(top.isinf(), 0.0, p * log - top)
            for log, top in zip(logs, tops, strict=True)
        ]
        if sum(log.nan_to_num(neginf=0.0).amin() for log in logs) < _LEAST_LOG:
            return None
        product = logs[0].exp_().T @ logs[1].exp_()
        return product.log_().add_(tops[0][:, None]).add_(tops[1])

    def everywhere(self, number: float) -> Tensor:
        """(out, in), a view of one number."""
        return self.x.new_full((1, 1), number).expand(self.shape)

    def products(self, rows: Tensor, columns: Tensor) -> Iterator[Tensor]:
        """The gradients of all examples at the chosen (out, in) pairs, in pieces (K, B)."""
        g, x, dim = self.g, self.x, 1
        if len(rows) > min(self.shape):  # rows of memory are copied faster than single numbers
            g, x, dim = g.T.contiguous(), x.T.contiguous(), 0
        step = max(1, min(self.chunk, _CACHED) // len(self.x))
        for some_rows, some_columns in zip(rows.split(step), columns.split(step), strict=True):
            # three times as fast as g[some_rows]
            products = g.index_select(dim, some_rows).mul_(x.index_select(dim, some_columns))
            yield products if dim == 0 else products.T


def _columns(tensor: Tensor, chosen: Tensor) -> Tensor:
    return tensor if len(chosen) == tensor.shape[1] else tensor.index_select(1, chosen)


def _int8(tensor: Tensor) -> Tensor:
    return tensor.contiguous().to(torch.int8)


def _places(tensor: Tensor, greatest: int) -> Tensor:
    """The places of a number, which none exceeds, among those of a tensor laid flat."""
    if tensor.amax() < greatest:  # a fifth of the time of a search
        return torch.empty(0, dtype=torch.int64)
    # numpy searches eight times as fast
    return torch.from_numpy(np.flatnonzero(tensor.numpy() == greatest))


def _product(a: Tensor, b: Tensor) -> Tensor:
    """a^T b in int32, exact, of int8 matrices (B, m) and (B, n) of numbers in -1 ... 1."""
    if _multiplies_int8(a.device, len(a), a.shape[1], b.shape[1]):
        return torch._int_mm(a.T, b)
    return (a.float().T @ b.float()).to(torch.int32)


@cache
def _multiplies_int8(device: torch.device, batch_size: int, m: int, n: int) -> bool:
    """Whether torch multiplies int8 matrices of these shapes there, rightly and not in a loop.

    The function is private to torch. It refuses some shapes on some devices, so that each shape
    is tried once, and on the CPU what it gives for m = 1 is not initialized (torch 2.13).
    """
    if m == 1:
        return False
    vectors = torch.backends.cpu.get_cpu_capability().startswith("AVX")
    if device.type == "cpu" and not (vectors and torch.backends.mkldnn.is_available()):
        return False
    a, b = (
        torch.arange(batch_size * size, device=device).view(batch_size, size) % period % 3 - 1
        for size, period in ((m, 5), (n, 7))
    )
    try:
        found = torch._int_mm(_int8(a).T, _int8(b))
        return torch.equal(found, (a.float().T @ b.float()).to(torch.int32))
    except (AttributeError, RuntimeError):
        return False
