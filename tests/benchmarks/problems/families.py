"""Model families as others wrote them, tiny and randomly initialised; nothing is downloaded."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from tests.benchmarks.problems.workload import Problem, Workload, class_loss, token_loss

BATCH, TOKENS, WIDTH, WORDS, CLASSES = 32, 32, 64, 100, 10
HEADS = LAYERS = 2


class Logits(nn.Module):
    """A model of `transformers` that returns its logits alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        return self.model(tokens).logits


def gpt2() -> nn.Module:
    """GPT-2, whose output layer is its embedding."""
    _load_torchvision()
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes = {"n_embd": WIDTH, "n_layer": LAYERS, "n_head": HEADS, "n_positions": TOKENS}
    still = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    ends = {"bos_token_id": 0, "eos_token_id": 0, "use_cache": False}
    return Logits(GPT2LMHeadModel(GPT2Config(vocab_size=WORDS, **sizes, **still, **ends)))


def bert() -> nn.Module:
    """BERT, which classifies a text."""
    _load_torchvision()
    from transformers import BertConfig, BertForSequenceClassification

    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config = BertConfig(**_sizes(), num_labels=CLASSES, max_position_embeddings=TOKENS, **still)
    return Logits(BertForSequenceClassification(config))


def llama() -> nn.Module:
    """Llama: rotary positions, RMSNorm, gated feed-forward layers."""
    _load_torchvision()
    from transformers import LlamaConfig, LlamaForCausalLM

    return Logits(LlamaForCausalLM(LlamaConfig(**_sizes(), use_cache=False)))


def vit() -> nn.Module:
    """The vision transformer of `timm`: patches, a class token, a table of positions."""
    _load_torchvision()
    from timm.models.vision_transformer import VisionTransformer

    sizes = {"embed_dim": WIDTH, "depth": LAYERS, "num_heads": HEADS, "num_classes": CLASSES}
    return VisionTransformer(img_size=32, patch_size=8, **sizes)


def _sizes() -> dict[str, int]:
    return {
        "vocab_size": WORDS,
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
    }


def _load_torchvision() -> None:
    """Import torchvision, if it is there, also where it was built for another kind of torch.

    Its operators are then missing, of which these models use none, and it fails to register them.
    """
    try:
        import torchvision  # noqa: F401
    except ImportError:
        return
    except RuntimeError:
        for name in ("nms", "qnms"):
            schema = "(Tensor dets, Tensor scores, float threshold) -> Tensor"
            torch.library.define(f"torchvision::{name}", schema)


def _make(model: Callable[[], nn.Module], batch: int, device: str) -> Workload:
    """Random pixels or words, and a random class for each example or word."""
    torch.manual_seed(0)
    made = model().train()
    words, classes = torch.randint(WORDS, (2, batch, TOKENS)), torch.randint(CLASSES, (batch,))
    if model is vit:
        inputs, targets, loss = torch.randn(batch, 3, 32, 32), classes, class_loss
    elif model is bert:
        inputs, targets, loss = words[0], classes, class_loss
    else:
        (inputs, targets), loss = words, token_loss
    return Workload(made.to(device), loss, ((inputs.to(device), targets.to(device)),))


MODELS: dict[str, tuple[str, Callable[[], nn.Module], tuple[str, ...]]] = {
    "gpt2": ("GPT-2 (transformers)", gpt2, ("transformers",)),
    "bert": ("BERT (transformers)", bert, ("transformers",)),
    "llama": ("Llama (transformers)", llama, ("transformers",)),
    "vit": ("ViT (timm)", vit, ("timm", "torchvision")),
}
FAMILIES = {
    name: Problem(title, partial(_make, model), {BATCH: 3.0}, BATCH, packages)
    for name, (title, model, packages) in MODELS.items()
}
