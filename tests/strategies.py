"""Random stacks of gradients for Hypothesis: ties, zeros, agreement and conflict all occur."""

import torch
from hypothesis import strategies as st

from tests import oracle


@st.composite
def stacks(draw, dtype=torch.float64, max_voters=6):
    """A stack (N, *shape) in which a good share of the weights has consensus."""
    n = draw(st.integers(1, max_voters))
    shape = draw(st.sampled_from([(), (1,), (4,), (2, 3), (2, 1, 2)]))
    value = st.one_of(
        st.sampled_from([0.0, 1.0, -1.0, 0.5, 2.0]),
        st.floats(0.125, 8, width=16),
        st.floats(-8, -0.125, width=16),
    )
    size = n * max(1, torch.Size(shape).numel())
    flat = torch.tensor(draw(st.lists(value, min_size=size, max_size=size)), dtype=dtype)
    stack = flat.reshape(n, *shape)
    return stack.abs() if draw(st.booleans()) else stack


def rules_with_oracles(cl):
    """Every deterministic rule beside its definition."""
    inf = float("inf")
    powers = [(p, t) for p in (-inf, -3.0, -1.0, 0.0, 0.5, 1.0, 2.0) for t in (1.0, 0.5)]
    return [
        (cl.Mean(), oracle.mean),
        (cl.Consensus(), oracle.consensus_veto),
        (cl.Consensus(zeros="veto"), oracle.consensus_veto),
        (cl.Consensus(zeros="abstain"), oracle.consensus_abstain),
        (cl.AndMask(), oracle.and_mask(1.0)),
        (cl.AndMask(threshold=2 / 3), oracle.and_mask(2 / 3)),
        (cl.AndMask(threshold=0.0), oracle.and_mask(0.0)),
        (cl.AgreementWeighted(), oracle.agreement_weighted),
        (cl.SignVote(), oracle.sign_vote),
        (cl.SmallestMagnitude(), oracle.smallest_magnitude),
        *((cl.PowerMean(p, threshold=t), oracle.power_mean(p, t)) for p, t in powers),
    ]
