"""The layer rule of nn.MultiheadAttention: its core is run again, its two projections are Linear.

Hooks on the output projection of that module never fire, since it reads the weights itself. So
the module is treated whole: from its input and the gradient of its output the rule recomputes the
attention between the projections and asks autograd for the gradient at their seam.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from consensus_lib.layers import layer_rule

__all__ = ["self_attention"]


def _read(
    module: nn.MultiheadAttention, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
) -> tuple[Tensor, Tensor] | None:
    """(input, output) of plain self-attention; None for masks, dropout and other variants."""
    given = dict(zip(("query", "key", "value"), args, strict=False)) | kwargs
    query = given.pop("query")
    plain = (
        given.pop("key") is query
        and given.pop("value") is query
        and query.dim() == 3
        and module.batch_first
        and module._qkv_same_embed_dim
        and module.bias_k is None
        and not module.add_zero_attn
        and not (module.training and module.dropout)
        and not isinstance(args[3] if len(args) > 3 else None, Tensor)
        and all(given.get(mask) is None for mask in ("key_padding_mask", "attn_mask"))
    )
    return (query, output[0]) if plain and len(args) <= 3 else None


@layer_rule(nn.MultiheadAttention, read=_read)
def self_attention(module: nn.Module, inputs: Tensor, grad_outputs: Tensor) -> dict[str, Tensor]:
    """in_proj_weight (3d, d), out_proj.weight (d, d) and their biases, for inputs (B, T, d)."""
    size, steps, width = inputs.shape
    dtype = inputs.dtype
    weight, bias = module.in_proj_weight, module.in_proj_bias
    with torch.enable_grad():
        projected = functional.linear(
            inputs, weight.detach().to(dtype), None if bias is None else bias.detach().to(dtype)
        ).requires_grad_()
        heads = projected.view(size, steps, 3, module.num_heads, -1).permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(*heads)
        attended = attended.transpose(1, 2).reshape(size, steps, width)
    back = grad_outputs @ module.out_proj.weight.detach().to(dtype)
    (seam,) = torch.autograd.grad(attended, projected, back)
    return {
        "in_proj_weight": torch.bmm(seam.transpose(1, 2), inputs),
        "in_proj_bias": seam.sum(dim=1),
        "out_proj.weight": torch.bmm(grad_outputs.transpose(1, 2), attended.detach()),
        "out_proj.bias": grad_outputs.sum(dim=1),
    }
