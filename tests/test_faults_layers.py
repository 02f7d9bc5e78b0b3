"""Formulas apply only where they are true: to layers that are what their type says."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils import parametrizations, parametrize, prune

import consensus_lib as cl
from tests.steps import RULES, assert_in_words, step
from tests.zoo import Animal, Lambda, parameter

B = 4


class Doubling(nn.Linear):
    def forward(self, x):
        return super().forward(2 * x).square()


class Standardised(nn.Conv2d):
    """Weight standardisation, as in big transfer models."""

    def forward(self, x):
        w = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return F.conv2d(x, w, self.bias, self.stride, self.padding)


class Cosine(nn.Linear):
    def forward(self, x):
        return F.linear(F.normalize(x, dim=-1), F.normalize(self.weight, dim=-1), self.bias)


class Shifted(nn.Embedding):
    def forward(self, tokens):
        return super().forward((tokens + 1) % self.num_embeddings) * 3


class Sum(nn.Module):
    def forward(self, weight):
        return weight + weight.T


def weight_norm_of_the_old_kind(module):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.utils.weight_norm(module)


def hooked(module, hook, on="forward_hook"):
    getattr(module, f"register_{on}")(hook)
    return module


def pruned(module, *names, structured=False):
    for name in names:
        if structured:
            prune.ln_structured(module, name, 0.5, n=2, dim=0)
        else:
            prune.random_unstructured(module, name, 0.4)
    return module


def one_by_one(m, x):
    return torch.stack([m.layer(one) for one in x])


def spectral(module):
    module = parametrizations.spectral_norm(module)
    return module.eval()  # training changes its vectors at each call


def low_rank(m, x):
    return F.linear(x, m.weight + m.a @ m.b)


def inplace_hook(module, args, output):
    output.mul_(2)


def replaced_at_runtime():
    layer = nn.Linear(3, 3)
    layer.forward = lambda x: F.linear(x, layer.weight.T.exp(), layer.bias)
    return layer


conv = lambda: nn.Conv2d(3, 3, 3)  # noqa: E731
CASES = {
    # names that hide what was made of them
    "weight norm, old": lambda: (weight_norm_of_the_old_kind(nn.Linear(3, 2)), (3,)),
    "weight norm, old, conv": lambda: (weight_norm_of_the_old_kind(conv()), (3, 5, 5)),
    "weight norm": lambda: (parametrizations.weight_norm(nn.Linear(3, 2)), (3,)),
    "weight norm, conv": lambda: (parametrizations.weight_norm(conv()), (3, 5, 5)),
    "spectral norm": lambda: (spectral(nn.Linear(3, 2)), (3,)),
    "spectral norm, old": lambda: (nn.utils.spectral_norm(nn.Linear(3, 2)).eval(), (3,)),
    "orthogonal": lambda: (parametrizations.orthogonal(nn.Linear(3, 3)), (3,)),
    "parametrized": lambda: (
        parametrize.register_parametrization(nn.Linear(3, 3), "weight", Sum()), (3,)
    ),
    "pruned": lambda: (pruned(nn.Linear(3, 4), "weight", "bias"), (3,)),
    "pruned, conv": lambda: (pruned(conv(), "weight", structured=True), (3, 5, 5)),
    "pruned, for good": lambda: (prune.remove(pruned(nn.Linear(3, 4), "weight"), "weight"), (3,)),
    # layers that do something else than their type says
    "subclass of Linear": lambda: (Doubling(3, 2), (3,)),
    "subclass of Linear, cosine": lambda: (Cosine(3, 2), (5, 3)),
    "subclass of Conv2d": lambda: (Standardised(2, 3, 3), (2, 5, 5)),
    "subclass of Embedding": lambda: (Shifted(7, 3), (5,), 7),
    "forward replaced": lambda: (nn.Sequential(replaced_at_runtime()), (3,)),
    "hook on the output": lambda: (hooked(nn.Linear(3, 2), lambda m, a, o: o.exp()), (3,)),
    "hook in place": lambda: (hooked(nn.Linear(3, 2), inplace_hook), (3,)),
    "hook with the weight": lambda: (hooked(nn.Linear(3, 3), lambda m, a, o: o @ m.weight), (3,)),
    "hook on the input": lambda: (
        hooked(nn.Linear(3, 2), lambda m, a: (a[0].sin(),), "forward_pre_hook"), (3,)
    ),
    "hook on the gradient": lambda: (
        nn.Sequential(nn.Linear(3, 3), hooked(nn.Linear(3, 2), lambda m, g, o: (3 * g[0],),
                                              "full_backward_hook")),
        (3,),
    ),
    "more parameters than the type has": lambda: (
        Lambda(lambda m, x: F.linear(x, m.layer.weight * m.layer.extra), layer=_with_extra()), (3,)
    ),
    # calls that a formula does not fit
    "conv2d, one at a time": lambda: (Lambda(one_by_one, layer=conv()), (3, 5, 5)),
    "conv1d, one at a time": lambda: (Lambda(one_by_one, layer=nn.Conv1d(B, B, 3)), (B, 5)),
    "linear, one at a time": lambda: (Lambda(one_by_one, layer=nn.Linear(B, B)), (B,)),
    "group norm, one at a time": lambda: (
        Lambda(lambda m, x: torch.cat([m.layer(o[None]) for o in x]), layer=nn.GroupNorm(2, 4)),
        (4, 3),
    ),
    "the batch in the channels": lambda: (
        Lambda(lambda m, x: m.layer(x.movedim(0, 1)).movedim(1, 0), layer=nn.Conv1d(B, B, 3)),
        (B, 5),
    ),
    "linear over the batch": lambda: (
        Lambda(lambda m, x: m.layer(x.T).T, layer=nn.Linear(B, B)), (B,)
    ),
    "layer norm over the batch": lambda: (
        Lambda(lambda m, x: m.layer(x.T).T, layer=nn.LayerNorm(B)), (B,)
    ),
    "embedding of a vector": lambda: (
        Lambda(lambda m, t: torch.stack([m.layer(one) for one in t]), layer=nn.Embedding(7, 3)),
        (B,), 7,
    ),
    "embedding, frequent norm": lambda: (nn.Embedding(7, 3, max_norm=100.0), (5,), 7),
    "examples flattened, positions first": lambda: (
        Lambda(lambda m, x: m.layer(x.movedim(1, 0).reshape(-1, 3)).view(5, -1, 2).movedim(1, 0),
               layer=nn.Linear(3, 2)),
        (5, 3),
    ),
    "examples flattened": lambda: (
        Lambda(lambda m, x: m.layer(x.reshape(-1, 3)).view(-1, 5, 2), layer=nn.Linear(3, 2)), (5, 3)
    ),
    # nothing at all
    "no outputs": lambda: (
        Lambda(lambda m, x: torch.cat([m.a(x), m.b(x)], 1), a=nn.Linear(3, 2), b=nn.Linear(3, 0)),
        (3,),
    ),
    "no inputs": lambda: (
        Lambda(lambda m, x: m.a(x) + m.b(x[:, :0]), a=nn.Linear(3, 2), b=_linear_of_nothing()), (3,)
    ),
    "no channels": lambda: (
        Lambda(lambda m, x: torch.cat([x.sin() * m.scale, m.none * x[:, :0]], 1),
               scale=parameter(3), none=parameter(0)),
        (3,),
    ),
    "no positions": lambda: (
        Lambda(lambda m, x: m.a(x[:, 0]) + m.b(x[:, :0]).sum(1),
               a=nn.Linear(3, 2), b=nn.Linear(3, 2)),
        (2, 3),
    ),
    # scalars
    "scalar factor": lambda: (
        Lambda(lambda m, x: m.line(x) * m.scale.exp(), line=nn.Linear(3, 2), scale=parameter()),
        (3,),
    ),
    "scalars only": lambda: (
        Lambda(lambda m, x: (x * m.a + m.b).sin(), a=parameter(), b=parameter()), (3,)
    ),
    "scalar power": lambda: (Lambda(lambda m, x: x.abs() ** m.a + m.a, a=parameter()), (3,)),
    "a scalar and a layer without a formula": lambda: (
        Lambda(lambda m, x: m.gru(x)[0] * m.scale.exp(),
               gru=nn.GRU(3, 2, batch_first=True), scale=parameter()),
        (4, 3),
    ),
    "prelu": lambda: (nn.Sequential(nn.Linear(3, 2), nn.PReLU()), (3,)),
    # parameters used without their modules
    "functions on bare parameters": lambda: (
        Lambda(lambda m, x: F.linear(F.layer_norm(F.linear(x, m.w, m.b), (4,), m.g), m.v),
               w=parameter(4, 3), b=parameter(4), g=parameter(4), v=parameter(2, 4)),
        (3,),
    ),
    "a convolution of a bare parameter": lambda: (
        Lambda(lambda m, x: F.conv2d(x, m.w, m.b, padding=1),
               w=parameter(3, 2, 3, 3), b=parameter(3)),
        (2, 4, 4),
    ),
    "a parameter list": lambda: (
        Lambda(lambda m, x: x @ m.ws[0] * m.ws[1] + m.ws[2],
               ws=nn.ParameterList([parameter(3, 2), parameter(2), parameter(2)])),
        (3,),
    ),
    "a parameter dict": lambda: (
        Lambda(lambda m, x: F.linear(x, m.ws["w"], m.ws["b"]).tanh() * m.ws["w"].sum(),
               ws=nn.ParameterDict({"w": parameter(2, 3), "b": parameter(2)})),
        (3,),
    ),
    "another layer's weight": lambda: (
        Lambda(lambda m, x: F.linear(m.layer(x).tanh(), m.layer.weight.T), layer=nn.Linear(3, 2)),
        (3,),
    ),
    "low rank": lambda: (
        Lambda(low_rank, weight=parameter(3, 4), a=parameter(3, 2), b=parameter(2, 4)), (4,)
    ),
    "einsum": lambda: (
        Lambda(lambda m, x: torch.einsum("bi,oi->bo", x, m.w).sin(), w=parameter(2, 3)), (3,)
    ),
    "bilinear": lambda: (
        Lambda(lambda m, x: m.layer(x, x.sin()), layer=nn.Bilinear(3, 3, 2)), (3,)
    ),
    "distances": lambda: (
        Lambda(lambda m, x: torch.cdist(x, m.centres), centres=parameter(4, 3)), (3,)
    ),
    "a solved system": lambda: (
        Lambda(lambda m, x: torch.linalg.solve(5 * torch.eye(3, dtype=x.dtype) + m.w, x.T).T,
               w=parameter(3, 3)),
        (3,),
    ),
}  # fmt: skip


def _with_extra():
    layer = nn.Linear(3, 2)
    layer.extra = parameter(2, 3)
    return layer


def _linear_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that initializing it is a no-op
        return nn.Linear(0, 2)


def losses_of(outputs):
    flat = outputs.flatten(1)
    weights = torch.linspace(0.5, 2, flat.shape[1], dtype=flat.dtype)
    return (flat.sin() * weights + flat.square() * 0.1).sum(1)


@pytest.mark.parametrize("rule", RULES, ids=repr)
@pytest.mark.parametrize("kind", CASES)
def test_a_formula_applies_only_where_it_is_true(kind, rule):
    model, *rest = CASES[kind]()
    animal = Animal(model.double(), *rest)
    for batch in (B, B) if B in animal.shape else (B, B - 1, 1, B):
        x = animal.inputs(batch)
        step(model, lambda m, x=x: losses_of(m(x)), rule)
    step(model, lambda m: losses_of(m(x)), rule, voters=[1, 0, 1, 0])


HALVES = {torch.float16: 2e-2, torch.bfloat16: 1e-1}


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("kind", ["subclass of Linear", "pruned", "low rank", "scalar factor",
                                  "functions on bare parameters", "a parameter list"])  # fmt: skip
def test_half_precisions_are_right_to_their_precision(kind, dtype):
    model, shape = CASES[kind]()
    x = torch.randn(B, *shape).to(dtype)
    for _ in range(2):
        step(model.to(dtype), lambda m: losses_of(m(x).float()), tol=HALVES[dtype])


@pytest.mark.parametrize(
    "model",
    [nn.Linear(3, 2, dtype=torch.complex64), nn.Conv1d(3, 2, 1, dtype=torch.complex128),
     nn.Sequential(nn.Linear(3, 3),
                   Lambda(lambda m, x: x * m.phase, phase=nn.Parameter(torch.ones(3) * 1j)))],
    ids=["linear", "conv", "bare"],
)  # fmt: skip
def test_complex_weights_are_refused(model):
    real = isinstance(model, nn.Sequential)
    x = torch.randn(B, 3, *((1,) * isinstance(model, nn.Conv1d)))
    dtype = next(model.parameters()).dtype
    x = x if real else x.to(dtype)
    name = "1.phase" if real else "weight"
    with pytest.raises((TypeError, ValueError)) as refusal:
        step(model, lambda m: m(x).abs().flatten(1).sum(1))
    assert_in_words(refusal.value, "complex", name)


@pytest.mark.parametrize("rule", [*RULES, cl.Mean(), cl.AndMask(), cl.SignVote()], ids=repr)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_stack_of_scalars_that_is_not_finite_is_refused_by_its_voter(rule, bad):
    with pytest.raises(FloatingPointError, match="voter 1"):
        rule.reduce(torch.tensor([1.0, bad, 2.0]))
