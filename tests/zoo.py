"""Small models of every kind that the engine must get right, each with inputs for B examples."""

from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils import parametrizations


@dataclass
class Animal:
    """A model with the shape of one example's input; integer inputs below `vocabulary`."""

    model: nn.Module
    shape: tuple[int, ...]
    vocabulary: int | None = None
    untouched: tuple[str, ...] = field(default=())

    def inputs(self, batch_size):
        if self.vocabulary is None:
            return torch.randn(batch_size, *self.shape, dtype=torch.float64)
        return torch.randint(self.vocabulary, (batch_size, *self.shape))


def loss_fn(outputs, targets):
    """A smooth loss with a different gradient for each example, (B,)."""
    flat = outputs.flatten(start_dim=1)
    return ((flat - targets[:, None]) ** 2).mean(dim=1) + flat.sin().sum(dim=1)


class Scale(nn.Module):
    """A bare parameter beside a layer."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.randn(4))
        self.linear = nn.Linear(4, 3)

    def forward(self, x):
        return self.linear(x * self.scale) + self.scale.sum()


class Affine(nn.Module):
    """Bare parameters in operations only."""

    def __init__(self):
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.randn(4)), nn.Parameter(torch.randn(4))
        self.gain = nn.Parameter(torch.randn(()))

    def forward(self, x):
        return self.gain * (self.shift - (self.scale * x).tanh()) + self.scale


class Positions(nn.Module):
    """A word and its place, views of longer tables, one of them added in place."""

    def __init__(self):
        super().__init__()
        self.words, self.out = nn.Embedding(7, 4), nn.Linear(4, 2)
        self.places = nn.Parameter(torch.randn(1, 6, 4))
        self.steps = nn.Parameter(torch.randn(9))

    def forward(self, tokens):
        length = tokens.shape[1]
        x = self.words(tokens) + self.places[:, :length]
        x -= self.steps[: 2 * length : 2, None]
        return self.out(x * self.steps.view(3, 3).T[:1, :1])


class Channels(nn.Module):
    """A factor a channel, of a module whose `kernel_size` is none of ours."""

    def __init__(self):
        super().__init__()
        self.kernel_size = 3
        self.factor = nn.Parameter(torch.randn(2))

    def forward(self, x):
        return (x * self.factor.view(1, -1, 1, 1)).sin()


class Tied(nn.Module):
    """An embedding whose weight is also the output layer's."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.out = nn.Linear(4, 7, bias=False)
        self.out.weight = self.embedding.weight

    def forward(self, tokens):
        return self.out(torch.tanh(self.embedding(tokens)))


class Twice(nn.Module):
    """The same layer called twice."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        return self.layer(torch.relu(self.layer(x)))


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.rnn = kind(3, 4, num_layers=2, batch_first=True)

    def forward(self, x):
        return self.rnn(x)[0]


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x)[0]


class Masked(Attention):
    """Attention to what came before."""

    def forward(self, x):
        later = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        return self.attention(x, x, x, attn_mask=later)[0]


class HalfUsed(nn.Module):
    """A parameter on which no loss depends."""

    def __init__(self):
        super().__init__()
        self.used = nn.Linear(3, 2)
        self.unused = nn.Linear(3, 2)

    def forward(self, x):
        return self.used(x)


class Lambda(nn.Module):
    """A forward pass written as a function of the module and its input, with named members."""

    def __init__(self, forward, **members):
        super().__init__()
        self.run = forward
        for name, member in members.items():
            setattr(self, name, member)

    def forward(self, x):
        return self.run(self, x)


def parameter(*shape):
    return nn.Parameter(torch.randn(shape))


class HFConv1D(nn.Module):
    """The layer of GPT-2 in `transformers`: a Linear with its weight the other way round."""

    def __init__(self, out, width):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width, out) / width**0.5)
        self.bias = parameter(out)

    def forward(self, x):
        flat = torch.addmm(self.bias, x.view(-1, x.shape[-1]), self.weight)
        return flat.view(*x.shape[:-1], len(self.bias))


def class_token(m, x):
    x = torch.cat([m.token.expand(len(x), -1, -1), x], 1)
    return m.layers(x)[:, 0]


def words_and_places(m, tokens):
    return m.layers(m.word(tokens) + m.place(torch.arange(tokens.shape[1])[None]))


def two_heads(m, x):
    shared = m.trunk(x).tanh()
    return torch.cat([m.first(shared), m.second(shared).exp()], -1)


def feed_forward(width):
    return nn.Sequential(nn.Linear(width, 5), nn.GELU(), nn.Linear(5, width))


def _frozen():
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    model[0].weight.requires_grad_(False)
    return model


def _conv(*args, **settings):
    return nn.Sequential(nn.Conv2d(*args, **settings), nn.ReLU(inplace=True), nn.Conv2d(4, 2, 1))


ZOO = {
    "linear": lambda: Animal(nn.Linear(3, 2), (3,)),
    "linear without bias": lambda: Animal(nn.Linear(3, 2, bias=False), (3,)),
    "linear 3-D": lambda: Animal(nn.Linear(3, 2), (5, 3)),
    "linear 4-D": lambda: Animal(nn.Linear(3, 2), (2, 5, 3)),
    "mlp": lambda: Animal(nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 2)), (3,)),
    "in-place relu": lambda: Animal(
        nn.Sequential(nn.Linear(3, 6), nn.ReLU(inplace=True), nn.Linear(6, 2)), (3,)
    ),
    "dropout": lambda: Animal(
        nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 2)), (3,)
    ),
    "conv": lambda: Animal(_conv(2, 4, 3, padding=1), (2, 5, 4)),
    "conv stride": lambda: Animal(_conv(2, 4, 3, stride=2), (2, 7, 6)),
    "conv dilation": lambda: Animal(_conv(2, 4, 3, dilation=2, padding=1), (2, 7, 6)),
    "conv groups": lambda: Animal(_conv(2, 4, 3, groups=2, bias=False), (2, 5, 5)),
    "conv same": lambda: Animal(_conv(2, 4, 3, padding="same"), (2, 5, 5)),
    "conv circular": lambda: Animal(_conv(2, 4, 3, padding=1, padding_mode="circular"), (2, 5, 5)),
    "conv reflect": lambda: Animal(_conv(2, 4, 3, padding=1, padding_mode="reflect"), (2, 5, 5)),
    "conv replicate": lambda: Animal(
        _conv(2, 4, 3, padding=1, padding_mode="replicate"), (2, 5, 5)
    ),
    "conv 1-D": lambda: Animal(nn.Conv1d(2, 3, 3, padding=2, dilation=2), (2, 7)),
    "conv 3-D": lambda: Animal(nn.Conv3d(2, 3, (2, 3, 1), stride=(1, 2, 1)), (2, 3, 5, 4)),
    "transposed": lambda: Animal(
        nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2), (4, 3, 4)
    ),
    "transposed 1-D": lambda: Animal(nn.ConvTranspose1d(2, 3, 4, dilation=2), (2, 5)),
    "transposed 3-D": lambda: Animal(
        nn.ConvTranspose3d(2, 4, (2, 1, 3), stride=(1, 2, 1), padding=(0, 0, 1), groups=2),
        (2, 2, 3, 4),
    ),
    "rms norm": lambda: Animal(nn.Sequential(nn.Linear(3, 4), nn.RMSNorm(4)), (5, 3)),
    "layer norm 2-D": lambda: Animal(nn.LayerNorm((4, 3)), (2, 4, 3)),
    "embedding": lambda: Animal(
        nn.Sequential(nn.Embedding(7, 3, padding_idx=0), nn.Flatten(), nn.Linear(12, 2)), (4,), 7
    ),
    "sparse embedding": lambda: Animal(
        nn.Sequential(nn.Embedding(7, 3, padding_idx=1, sparse=True), nn.Tanh()), (4,), 7
    ),
    "layer norm": lambda: Animal(nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4)), (5, 3)),
    "group norm": lambda: Animal(
        nn.Sequential(nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), nn.Tanh()), (2, 5, 5)
    ),
    "batch norm in eval": lambda: Animal(
        nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4).eval(), nn.Linear(4, 1)), (3,)
    ),
    "gru": lambda: Animal(Recurrent(nn.GRU), (5, 3)),
    "lstm": lambda: Animal(Recurrent(nn.LSTM), (5, 3)),
    "attention": lambda: Animal(Attention(), (5, 8)),
    "masked attention": lambda: Animal(Masked(), (5, 8)),
    "transformer layer": lambda: Animal(
        nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True), (5, 8)
    ),
    "transformer layer without dropout": lambda: Animal(
        nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True), (5, 8)
    ),
    "bare parameter": lambda: Animal(Scale(), (4,)),
    "scale and shift": lambda: Animal(Affine(), (4,)),
    "scale and shift 3-D": lambda: Animal(Affine(), (5, 4)),
    "positions": lambda: Animal(Positions(), (4,), 7),
    "channels": lambda: Animal(Channels(), (2, 3, 5)),
    "class token": lambda: Animal(
        Lambda(class_token, token=parameter(1, 1, 4), layers=feed_forward(4)), (3, 4)
    ),
    "position table": lambda: Animal(
        Lambda(
            words_and_places,
            word=nn.Embedding(7, 4),
            place=nn.Embedding(6, 4),
            layers=feed_forward(4),
        ),
        (6,),
        7,
    ),
    "weight norm": lambda: Animal(
        nn.Sequential(parametrizations.weight_norm(nn.Linear(3, 4)), nn.Tanh(), nn.Linear(4, 2)),
        (3,),
    ),
    "low-rank sum": lambda: Animal(
        Lambda(
            lambda m, x: F.linear(x, m.weight + m.a @ m.b).sin(),
            weight=parameter(2, 3),
            a=parameter(2, 1),
            b=parameter(1, 3),
        ),
        (3,),
    ),
    "parameter list": lambda: Animal(
        Lambda(
            lambda m, x: (x @ m.all[0] * m.all[1]).sin() + m.all[2],
            all=nn.ParameterList([parameter(3, 2), parameter(2), parameter(2)]),
        ),
        (3,),
    ),
    "HF Conv1D": lambda: Animal(nn.Sequential(HFConv1D(5, 4), nn.GELU(), HFConv1D(4, 5)), (3, 4)),
    "broadcast parameter": lambda: Animal(
        Lambda(
            lambda m, x: m.line(x) * m.rows.exp() - m.cells,
            line=nn.Linear(4, 4),
            rows=parameter(3, 1),
            cells=parameter(1, 3, 4),
        ),
        (3, 4),
    ),
    "several heads": lambda: Animal(
        Lambda(two_heads, trunk=nn.Linear(3, 4), first=nn.Linear(4, 2), second=nn.Linear(4, 1)),
        (3,),
    ),
    "tied": lambda: Animal(Tied(), (4,), 7),
    "frozen": lambda: Animal(_frozen(), (3,), untouched=("0.weight",)),
    "called twice": lambda: Animal(Twice(), (4,)),
    "partly unused": lambda: Animal(HalfUsed(), (3,)),
}


def build(name):
    """The animal in float64."""
    animal = ZOO[name]()
    animal.model.double()
    return animal
