"""The rules of the course, each by the one name that it has in code, figures, tables and prose."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import torch

import consensus_lib as cl

__all__ = ["RULES", "seeded"]

RULES: Mapping[str, cl.Rule] = MappingProxyType(
    {
        "mean": cl.Mean(),
        "consensus": cl.Consensus(),
        "abstain": cl.Consensus(zeros="abstain"),
        "AND-mask": cl.AndMask(),
        "power mean": cl.PowerMean(0.0),
        "agreement-weighted": cl.AgreementWeighted(),
        "sign vote": cl.SignVote(),
        "random mask": cl.RandomMask(),
        "smallest magnitude": cl.SmallestMagnitude(),
    }
)


def seeded(rule: cl.Rule, seed: int) -> cl.Rule:
    """The rule; a random mask draws its lots from `seed`, so that a run can be repeated."""
    if not isinstance(rule, cl.RandomMask):
        return rule
    return replace(rule, generator=torch.Generator().manual_seed(seed))
