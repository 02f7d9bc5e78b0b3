"""Consensus training: per-example gradients, and the rules that reduce them to one update.

    examples -> losses (B,) -> per-weight statistics -> rule -> update -> .grad -> optimizer

Loss function, model and optimizer stay as they are; only the reduction changes. The ARC tasks
are in `course.arc`, the course's figures in `course.figures`.
"""

from consensus_lib.checks import GradientCheck, GradientMismatch, check_gradients
from consensus_lib.engine import Tape, backward, record
from consensus_lib.grad_samplers import grad_sampler
from consensus_lib.gradients import per_example_gradients
from consensus_lib.report import ParameterReport, Report
from consensus_lib.rules import (
    AgreementWeighted,
    AndMask,
    Consensus,
    Mean,
    PowerMean,
    RandomMask,
    Rule,
    SignVote,
    SmallestMagnitude,
)
from consensus_lib.statistics import GradientStatistics, statistics_of
from consensus_lib.training import Diverged, History, stop_at_loss, train
from consensus_lib.updates import HeldWeights, apply_update, hold_masked_weights

__all__ = [
    "AgreementWeighted",
    "AndMask",
    "Consensus",
    "Diverged",
    "GradientCheck",
    "GradientMismatch",
    "GradientStatistics",
    "HeldWeights",
    "History",
    "Mean",
    "ParameterReport",
    "PowerMean",
    "RandomMask",
    "Report",
    "Rule",
    "SignVote",
    "SmallestMagnitude",
    "Tape",
    "apply_update",
    "backward",
    "check_gradients",
    "grad_sampler",
    "hold_masked_weights",
    "per_example_gradients",
    "record",
    "statistics_of",
    "stop_at_loss",
    "train",
]
