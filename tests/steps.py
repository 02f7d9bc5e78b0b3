"""One step of the library beside a loop of ordinary backward passes on the same graph.

The rules are written out here once more, on stacked tensors, so that models of any size are quick.
"""

import warnings
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn

import consensus_lib as cl

IN_WORDS = (ValueError, TypeError, RuntimeError, FloatingPointError)


def veto(g):
    return g.amin(0).clamp(min=0) + g.amax(0).clamp(max=0)


def agreement_weighted(g):
    return g.mean(0) * g.sign().sum(0).abs() / len(g)


RULES = {cl.Consensus(): veto, cl.AgreementWeighted(): agreement_weighted}
RULE = next(iter(RULES))


@dataclass
class Outcome:
    """The report of a step, the warnings that were heard during it, and how far off it was.

    `off` is the largest difference from the rule on ordinary gradients: {parameter name: share of
    the parameter's largest gradient}.
    """

    report: cl.Report
    said: list[str]
    off: dict[str, float]

    @property
    def doubts(self):
        """Warnings that earlier updates may have been wrong."""
        return [text for text in self.said if "since step" in text]


def mlp(*widths):
    layers = [m for a, b in pairwise(widths) for m in (nn.Linear(a, b), nn.Tanh())]
    return nn.Sequential(*layers[:-1])


def gradients_of(model, losses, voters=None):
    """{name: (N, *shape)} of the mean loss of each voter, a pass each; the graph is kept."""
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    ids = torch.arange(len(losses)) if voters is None else torch.as_tensor(voters)
    passes = [
        torch.autograd.grad(
            losses[ids == v].mean(), [*named.values()], retain_graph=True, allow_unused=True
        )
        for v in ids.unique()
    ]
    columns = zip(*passes, strict=True)
    return {
        name: torch.stack(
            [torch.zeros_like(p) if g is None else g.to_dense() for g in column]
        ).detach()
        for (name, p), column in zip(named.items(), columns, strict=True)
    }


def observed_step(model, losses_of, rule=RULE, voters=None, **settings):
    """Make a step; compare, but judge nothing. `settings` are those of `record`."""
    model.zero_grad()
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        with cl.record(model, **settings) as tape:
            losses = losses_of(model)
        gradients = gradients_of(model, losses, voters)
        report = tape.backward(losses, rule, voters)
    largest = max((float(g.abs().max()) for g in gradients.values() if g.numel()), default=0.0)
    off = {}
    for name, p in model.named_parameters():
        if p.requires_grad and p.numel():
            g = gradients[name].double()
            # what is 0 but for rounding has a sign that nobody can tell
            noise = largest * (1e-12 if p.dtype == torch.float64 else 1e-6)
            certain = ~((g != 0) & (g.abs() < noise)).any(0)
            gap = (p.grad.to_dense().double() - RULES[rule](g)).abs()[certain]
            off[name] = (
                float(gap.max() / max(float(g.abs().max()), noise, 1e-30)) if gap.numel() else 0.0
            )
    return Outcome(report, [str(w.message) for w in heard], off)


def step(model, losses_of, rule=RULE, voters=None, tol=1e-9, **settings):
    """Make a step and assert that its update is the rule on ordinary gradients."""
    outcome = observed_step(model, losses_of, rule, voters, **settings)
    wrong = {name: off for name, off in outcome.off.items() if not off <= tol}
    assert not wrong, f"off by these shares of the largest gradient: {wrong}"
    return outcome


def right_or_refused(model, losses_of, *needed, **settings):
    """A right step, or an error of the library's own in whose words all of `needed` occur."""
    try:
        step(model, losses_of, **settings)
    except IN_WORDS as error:
        assert_in_words(error, *needed)


def assert_in_words(error, *needed):
    """The library itself raised it, in a sentence that holds all of `needed`."""
    trace = error.__traceback__
    while trace.tb_next is not None:
        trace = trace.tb_next
    module = trace.tb_frame.f_globals["__name__"]
    assert module.partition(".")[0] in ("consensus_lib", "operations_engine"), (
        f"{error!r} comes from inside {module}"
    )
    assert len(str(error).split()) >= 6, f"no sentence: {error}"
    for word in needed:
        assert word in str(error), f"'{word}' is missing in: {error}"
