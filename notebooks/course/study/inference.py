"""What T differences, one a task, say of the tasks that were not run: intervals and tests.

Notation: d (T,) float64, the differences; m a margin, in the units of d. The tasks are a sample,
and the question is the mean difference over all tasks like them.

Intervals and the two tests against the margin come from one bootstrap distribution: the means of
many draws of T tasks with replacement (Efron and Tibshirani, An Introduction to the Bootstrap,
1993). Its plain percentiles lie too close for few tasks. They are taken further out, by the step
from the normal distribution to Student's t: the expanded percentile interval of Hesterberg (What
Teachers Should Know about the Bootstrap, The American Statistician 69, 2015). Differences of
accuracies are often 0 and otherwise skew: there the interval keeps the skewness, which t misses,
and needs no third moment, from which BCa intervals go astray where few tasks differ.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

__all__ = ["FEWEST_TASKS", "TIE", "Bootstrap", "holm", "p_different"]

DRAWS = 10_000
# Below six tasks no sign-flip test comes under 5 % (2 of 2^5 is 6 %), and the percentiles wanted
# are farther out than any draw.
FEWEST_TASKS = 6
TIE = 2e-5  # mean differences up to this are rounding: rows are stored with five digits


class Bootstrap:
    """The bootstrap distribution of the mean difference.

    Fewer than `FEWEST_TASKS` tasks say nothing: the interval is unbounded, and each p-value 1.

    Args:
        differences: finite float (T,), T >= 1.
        seed: of the draws; the same seed and T draw the same tasks.
    """

    def __init__(self, differences: np.ndarray, seed: int = 0) -> None:
        d = np.asarray(differences, dtype=np.float64)
        if d.ndim != 1 or not d.size or not np.isfinite(d).all():
            raise ValueError(f"differences are finite numbers (T,), one a task, not {d}")
        rng = np.random.default_rng(seed)
        self.differences = d
        self._means = d[rng.integers(0, len(d), (DRAWS, len(d)))].mean(axis=1)

    def interval(self, level: float) -> tuple[float, float]:
        """Bounds (low, high) that hold the true mean in about a share `level` of such studies."""
        tasks = len(self.differences)
        if tasks < FEWEST_TASKS:
            return -math.inf, math.inf
        t = stats.t.ppf((1 - level) / 2, tasks - 1)
        tail = stats.norm.cdf(t * math.sqrt(tasks / (tasks - 1)))
        low, high = np.quantile(self._means, [tail, 1 - tail]).tolist()
        return low, high

    def p_equivalent(self, margin: float) -> float:
        """Two one-sided tests (Schuirmann 1987) of "the mean is -m or less, or m or more".

        Below 5 % where the interval of level 90 % lies within (-m, m). Where all differences are
        the same there is nothing to draw from, and the interval has no width. What remains is the
        chance to miss T times the tasks that would lift the mean to m, each by a whole unit:
        then at least a share m - |mean| of all tasks. It is exact for accuracies.
        """
        d = self.differences
        if np.ptp(d) <= TIE and len(d) >= FEWEST_TASKS:
            share = margin - abs(d.mean())
            return float(np.clip(1 - share, 0, 1) ** len(d))
        return max(self._p_at_most(-margin), self._p_at_least(margin))

    def p_beyond(self, margin: float) -> float:
        """Two-sided test of "the mean is between -m and m".

        Below 5 % where the interval of level 95 % lies above m, or below -m.
        """
        return min(1.0, 2 * min(self._p_at_most(margin), self._p_at_least(-margin)))

    def _p_at_most(self, bound: float) -> float:
        return self._p_value(np.count_nonzero(self._means <= bound))

    def _p_at_least(self, bound: float) -> float:
        return self._p_value(np.count_nonzero(self._means >= bound))

    def _p_value(self, draws: int) -> float:
        """From the number of draws on the wrong side, expanded as the interval is."""
        tasks = len(self.differences)
        if tasks < FEWEST_TASKS:
            return 1.0
        z = stats.norm.ppf((draws + 1) / (DRAWS + 2))
        return float(stats.t.cdf(z * math.sqrt((tasks - 1) / tasks), tasks - 1))


def p_different(differences: np.ndarray, seed: int = 0) -> float:
    """Paired sign-flip test of "rule and baseline could change places in any task".

    The share of random signs that bring the mean as far from 0 as it is (Fisher 1935), counting
    the one observed (Phipson and Smyth 2010): at least 1 / (DRAWS + 1).

    Args:
        differences: float (T,).
        seed: of the signs; the same seed and T flip the same tasks.
    """
    d = np.asarray(differences, dtype=np.float64)
    rng = np.random.default_rng(seed)
    signs = 2.0 * rng.integers(0, 2, (DRAWS, len(d)), dtype=np.int8) - 1
    as_far = np.abs(signs @ d / len(d)) >= abs(d.mean()) - TIE
    return (1 + np.count_nonzero(as_far)) / (DRAWS + 1)


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Holm's adjusted p-values (Holm, Scandinavian Journal of Statistics 6, 1979), (K,).

    To reject those below 5 % errs, in any one of the K, in at most 5 % of studies, however the
    tests depend on each other. The k-th least, counted from 0, is multiplied by K - k, is at
    least as large as those before it, and at most 1.
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1)
    return adjusted
