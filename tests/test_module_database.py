"""PyTorch's own modules with its own samples of their inputs: right or refused, never wrong.

The rows of a module's output, whatever they are, count as the examples. Where examples do not come
first in its input, or rows see each other, that is one more way to be wrong.
"""

import itertools
import warnings
from collections import Counter

import pytest
import torch

import consensus_lib as cl
from tests import oracle
from tests.names import Agreed, Sum, Touched, Votes
from tests.steps import IN_WORDS, veto

common_modules = pytest.importorskip("torch.testing._internal.common_modules")

MODULES = {info.name: info for info in common_modules.module_db}
SETTINGS = list(itertools.product((torch.float32, torch.float64), (True, False)))
MOST = 20  # samples of a module and setting; every setting then has others
BY_ROWS = frozenset({Sum(), Agreed(), Touched(), Votes()})
AT_LEAST = 1200


def cases(name):
    """(module, arguments, keywords) of each sample with weights to train and rows to count."""
    info = MODULES[name]
    for number, (dtype, training) in enumerate(SETTINGS):
        torch.manual_seed(0)
        samples = info.module_inputs_func(
            info, device="cpu", dtype=dtype, requires_grad=False, training=training
        )
        stride = max(1, len(samples) // MOST)
        for sample in samples[number % stride :: stride]:
            made, given = sample.constructor_input, sample.forward_input
            module = info.module_cls(*made.args, **made.kwargs).to(dtype).train(training)
            if any(p.requires_grad for p in module.parameters()):
                output = rows_of(module(*given.args, **given.kwargs))
                if output is not None and output.dim() and len(output) > 1:
                    yield module, given.args, given.kwargs


def rows_of(output):
    """The first tensor of an output."""
    if isinstance(output, torch.Tensor):
        return output
    found = (rows_of(part) for part in output) if isinstance(output, (tuple, list)) else ()
    return next((rows for rows in found if rows is not None), None)


def verdict(module, args, kwargs):
    try:
        with cl.record(module) as tape:
            rows = rows_of(module(*args, **kwargs))
            losses = rows.reshape(len(rows), -1).sin().sum(1)
        expected = oracle.gradients_by_loop(module, losses)
        statistics = tape.statistics(losses, BY_ROWS)
    except IN_WORDS as error:
        return f"refused: {error}"
    largest = max(float(g.abs().max()) for g in expected.values() if g.numel())
    right = all(agree(statistics.by_parameter[n], g, largest) for n, g in expected.items())
    return "right" if right else "wrong"


def agree(found, g, largest):
    """Whether statistics are those of the stacked gradients g, (N, ...), to rounding."""
    noise = largest * (1e-12 if g.dtype == torch.float64 else 1e-5)
    silent = g.abs().amax(0) <= noise  # of 0 but for rounding nobody can tell a sign
    certain = ~((g != 0) & (g.abs() <= noise)).any(0)
    if not certain.all():
        certain &= ~silent
    near = torch.allclose(found[Sum()], g.sum(0), rtol=1e-4, atol=len(g) * noise)
    least = (found[Agreed()] - veto(g)).abs() <= noise + 1e-4 * veto(g).abs()
    touched = (found[Touched()] != 0) == (g != 0).any(0)
    votes = found[Votes()] == g.sign().sum(0)
    return near and bool((least & touched & votes)[certain].all())


@pytest.fixture(scope="module")
def verdicts():
    """{name of a module: counts of "right", "wrong" and of what was said in refusal}."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {name: Counter(verdict(*case) for case in cases(name)) for name in MODULES}


def test_no_statistics_of_a_module_are_wrong(verdicts):
    assert {name: count["wrong"] for name, count in verdicts.items() if count["wrong"]} == {}


def test_only_what_mixes_the_batch_is_refused(verdicts):
    for name, count in verdicts.items():
        for said in count.keys() - {"right", "wrong"}:
            assert "BatchNorm" in name
            assert "GroupNorm" in said


def test_nearly_all_modules_are_accepted(verdicts):
    assert sum(count["right"] for count in verdicts.values()) >= AT_LEAST
