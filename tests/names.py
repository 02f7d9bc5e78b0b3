"""The statistics and the decorator for formulas, wherever the library keeps them."""

import consensus_lib as cl

try:
    from consensus_lib.statistics import Agreed, Least, LogPowerSum, Sum, Touched, Unopposed, Votes
except ImportError:
    from consensus_lib.questions import Agreed, Least, LogPowerSum, Sum, Touched, Unopposed, Votes

__all__ = ["Agreed", "Least", "LogPowerSum", "Sum", "Touched", "Unopposed", "Votes", "grad_sampler"]

grad_sampler = getattr(cl, "grad_sampler", None) or cl.layer_rule
