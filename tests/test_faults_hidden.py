"""What the graph does not show is refused, and the model is left as it was."""

import contextlib
import copy
import io

import pytest
import torch
from torch import distributed, nn
from torch.utils.checkpoint import checkpoint

import consensus_lib as cl
from tests.steps import IN_WORDS, assert_in_words, mlp, right_or_refused, step
from tests.test_faults_layers import losses_of
from tests.zoo import Lambda, loss_fn, parameter

X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))


class Recompute(torch.autograd.Function):
    """Runs a function again when it goes backward, as reentrant checkpoints do."""

    @staticmethod
    def forward(ctx, x, function):
        ctx.function = function
        ctx.save_for_backward(x)
        return function(x)

    @staticmethod
    def backward(ctx, g):
        x = ctx.saved_tensors[0].detach().requires_grad_()
        with torch.enable_grad():
            y = ctx.function(x)
        torch.autograd.backward(y, g)
        return x.grad, None


class Tripled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        return 3 * g


def assert_refused(model, losses, *needed, **settings):
    """The library refuses the step in words that hold `needed`."""
    with pytest.raises(IN_WORDS) as refusal:
        step(model, losses, **settings)
    assert_in_words(refusal.value, *needed)


# Gradients that travel by other ways


@pytest.mark.parametrize("hidden", [[2], [0, 2], [2, 4]])
def test_parameters_used_in_a_functions_backward_are_refused(hidden):
    model = mlp(3, 4, 4, 1)

    def losses(m):
        h = X
        for i, layer in enumerate(m):
            h = Recompute.apply(h.requires_grad_(), layer) if i in hidden else layer(h)
        return h[:, 0].square()

    assert_refused(model, losses)


def test_a_function_that_hides_nothing_is_right():
    for _ in range(2):
        step(mlp(3, 4, 2), lambda m: losses_of(Tripled.apply(m(X))), tol=1e-5)
    model = nn.ModuleList([nn.Linear(3, 2), nn.Linear(3, 2)])
    right_or_refused(model, lambda m: losses_of(Tripled.apply(m[0](X))), "1.weight", tol=1e-5)


def test_an_aside_that_goes_backward_on_its_own_is_refused():
    model = mlp(3, 4, 2)

    @torch.enable_grad()
    def aside(g):
        model[2](X.new_ones(4)).sum().backward()

    def losses(m):
        h = m[0](X)
        h.register_hook(aside)
        return losses_of(m[2](h.tanh()))

    assert_refused(model, losses, ".grad")


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpoints(reentrant):
    def losses(m):
        return losses_of(checkpoint(m, X.clone().requires_grad_(), use_reentrant=reentrant))

    if reentrant:
        with cl.record(model := mlp(3, 4, 2)) as tape:
            found = losses(model)
        with pytest.raises(ValueError, match="use_reentrant=False"):
            tape.backward(found, cl.Consensus())
    else:
        for _ in range(2):
            step(mlp(3, 4, 2), losses, tol=1e-5)


@pytest.mark.parametrize(
    "use", [lambda y, s: y * s, lambda y, s: y + s.exp(), lambda y, s: y @ s.diag()]
)
def test_a_trainable_leaf_outside_the_model_is_refused(use):
    scale = parameter(2)
    assert_refused(nn.Linear(3, 2), lambda m: losses_of(use(m(X), scale)), "ModuleList")
    scale.requires_grad_(False)
    step(nn.Linear(3, 2), lambda m: losses_of(use(m(X), scale)), tol=1e-5)


def test_inputs_that_want_gradients_are_no_part_of_the_model():
    x = X.clone().requires_grad_()
    right_or_refused(nn.Linear(3, 2), lambda m: losses_of(m(x)), "ModuleList", tol=1e-5)


@pytest.fixture
def process_group():
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def fully_sharded(model):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    return fully_shard(model, mesh=init_device_mesh("cpu", (1,)))


@pytest.mark.usefixtures("process_group")
@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize(
    "wrap",
    [nn.DataParallel, nn.parallel.DistributedDataParallel, fully_sharded],
    ids=lambda w: w.__name__,
)
def test_wrappers_that_reduce_gradients_themselves_are_refused(wrap, inside):
    wrapped = wrap(nn.Linear(3, 2))
    model = nn.Sequential(wrapped, nn.Tanh()) if inside else wrapped
    with pytest.raises((ValueError, TypeError)) as refusal, cl.record(model) as tape:
        tape.backward(losses_of(model(X)), cl.Consensus())
    assert_in_words(refusal.value, "all_reduce")


def test_hooks_after_accumulation_fire_or_are_refused():
    model, seen = nn.Linear(3, 2), []
    model.weight.register_post_accumulate_grad_hook(lambda p: seen.append(p.grad.clone()))
    try:
        cl.backward(model, loss_fn, X, torch.zeros(4), cl.Consensus())
    except IN_WORDS as error:
        assert_in_words(error, "weight")
    else:
        assert len(seen) == 1
        torch.testing.assert_close(seen[0], model.weight.grad)


@pytest.mark.parametrize("layer", [nn.Embedding(7, 3, scale_grad_by_freq=True), nn.BatchNorm1d(5)])
def test_layers_that_mix_the_batch_are_refused_by_name(layer):
    model = nn.Sequential(nn.Identity(), layer)
    x = torch.randint(7, (4, 5)) if isinstance(layer, nn.Embedding) else torch.randn(4, 5)
    assert_refused(model, lambda m: losses_of(m(x)), "'1'")


def in_place(m, x):
    h = m[0](x)
    out = m[2](h)  # its input is saved for the weight's gradient
    h += 1
    return losses_of(out)


def test_an_activation_changed_in_place_is_refused():
    model = mlp(3, 4, 2)
    with cl.record(model) as tape:
        losses = in_place(model, X)
    with pytest.raises(RuntimeError, match="changed in place") as refusal:
        tape.backward(losses, cl.Consensus())
    assert_in_words(refusal.value, "2")


@pytest.mark.parametrize("spoil", [torch.mean, torch.sum, lambda t: t[0]])
def test_a_scalar_loss_is_refused_with_the_cure(spoil):
    model = nn.Linear(3, 2)
    with cl.record(model) as tape:
        losses = losses_of(model(X))
    with pytest.raises(ValueError, match="reduction='none'"):
        tape.backward(spoil(losses), cl.Consensus())


# The model is left as it was


class Counter(nn.Module):
    """A buffer that counts, replaced or written in place."""

    def __init__(self, inplace):
        super().__init__()
        self.line, self.inplace = nn.Linear(3, 2), inplace
        self.register_buffer("seen", torch.zeros(2))

    def forward(self, x):
        y = self.line(x)
        if self.inplace:
            self.seen += y.detach().sum(0)
        else:
            self.seen = self.seen + y.detach().sum(0)
        return y


@pytest.mark.parametrize("inplace", [True, False])
@pytest.mark.parametrize("way", [cl.per_example_gradients, cl.check_gradients])
def test_a_buffer_written_in_forward_is_left_usable(way, inplace):
    model = Counter(inplace)
    before = model.seen.clone()
    with contextlib.suppress(*IN_WORDS, cl.GradientMismatch):
        way(model, lambda o, t: o.square().mean(1), X, torch.zeros(4))
    assert torch.equal(model.seen, before)
    assert type(model.seen) is torch.Tensor
    model(X)
    torch.save(model.state_dict(), io.BytesIO())


HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def state(model):
    """Modes, attributes and numbers of hooks, of every module and parameter."""
    modules = [
        (m.training, list(m.__dict__), [len(getattr(m, hooks)) for hooks in HOOKS])
        for m in model.modules()
    ]
    return modules, [(p.requires_grad, len(p._backward_hooks or ())) for p in model.parameters()]


MODELS = {
    "mlp": lambda: (nn.Sequential(mlp(3, 4, 3), nn.Dropout(0.5)), X),
    "encoder": lambda: (
        nn.TransformerEncoderLayer(4, 2, 8, batch_first=True),
        torch.randn(4, 3, 4),
    ),
    "bare": lambda: (Lambda(lambda m, x: (x * m.a).sin(), a=parameter(3)), X),
    "mixing": lambda: (Lambda(lambda m, x: (x * m.a).cumsum(0), a=parameter(3)), X),
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", MODELS)
def test_a_step_leaves_the_model_and_the_random_state(kind, training):
    model, x = MODELS[kind]()
    model.train(training)
    next(model.parameters()).requires_grad_(kind in ("bare", "mixing"))
    before, values = state(model), copy.deepcopy(model.state_dict())
    torch.manual_seed(1)
    model(x)
    random = torch.get_rng_state()
    torch.manual_seed(1)
    with cl.record(model) as tape:
        losses = losses_of(model(x))
        inside = copy.deepcopy(model)
    tape.backward(losses, cl.Consensus())
    assert torch.equal(torch.get_rng_state(), random)
    assert state(model) == before
    for name, value in model.state_dict().items():
        assert torch.equal(value, values[name])
    for copied in (inside, copy.deepcopy(model)):
        assert state(copied) == before
        assert copied(x).requires_grad
    assert all(p.grad is None for p in inside.parameters())


@pytest.mark.parametrize("fails", [True, False])
def test_nothing_is_recorded_after_the_block(fails):
    model = mlp(3, 4, 2)
    before = state(model)
    with contextlib.suppress(KeyError), cl.record(model):
        losses_of(model(X))
        if fails:
            raise KeyError
    assert state(model) == before
    graphs = [nodes(losses_of(m(X)).grad_fn) for m in (model, copy.deepcopy(model))]
    assert [type(n) for n in graphs[0]] == [type(n) for n in graphs[1]]


def nodes(node):
    found = [node]
    for one in found:
        found += [p for p, _ in one.next_functions if p is not None and p not in found]
    return found
