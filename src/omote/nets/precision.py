"""Parts of a network that stay float32 when it runs in bfloat16.

The eight bits of bfloat16's mantissa suffice for features, which convolutions and matrix products average. They do not suffice
for values that are used directly (a depth of 100 mm would have steps of .4 mm), for comparing distances, and for a softmax.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import AttnProcessor2_0
from torch import Tensor, nn

Function = TypeVar("Function", bound=Callable[..., Any])


def in_float32(function: Function) -> Function:
    """Decorate a function to run in float32 under autocast; without autocast it is unchanged."""

    @functools.wraps(function)
    def wrapped(*arguments: Any, **named: Any) -> Any:
        kind = next((kind for kind in ("cpu", "cuda") if torch.is_autocast_enabled(kind)), None)
        if kind is None:
            return function(*arguments, **named)
        with torch.autocast(kind, enabled=False):
            return function(*map(_single, arguments), **{key: _single(value) for key, value in named.items()})

    return cast(Function, wrapped)


def keep_float32(module: nn.Module) -> None:
    """Make a module's forward pass `in_float32`."""
    module.forward = in_float32(module.forward)


def _single(value: Any) -> Any:
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.float()
    return [_single(item) for item in value] if isinstance(value, list) else value


class Attention(AttnProcessor2_0):
    """diffusers' attention processor, which between its projections computes in float32 under a CPU's autocast.

    The backward pass of fused attention on a CPU takes three to ten times as long in bfloat16 as in float32. On a GPU, fused
    attention keeps the softmax in float32 by itself.
    """

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """Apply cross-attention, or self-attention without ``encoder_hidden_states``; the output has the input's shape.

        Args:
            attn: attention layer, a `diffusers.models.attention_processor.Attention` without masks and dropout.
            hidden_states: input of shape (b, n, c) or (b, c, h, w), the source of the queries.
            encoder_hidden_states: context of shape (b, m, k) for cross-attention, or None.
            attention_mask: None; masks are not supported.
            temb: time embedding, ignored.
        """
        if not torch.is_autocast_enabled("cpu"):
            changed: Tensor = super().__call__(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
            return changed
        x = hidden_states.flatten(2).transpose(1, 2) if hidden_states.ndim == 4 else hidden_states
        if attn.group_norm is not None:
            x = attn.group_norm(x.transpose(1, 2)).transpose(1, 2)
        seen = x if encoder_hidden_states is None else encoder_hidden_states
        q, k, v = (
            project(read).unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            for project, read in ((attn.to_q, x), (attn.to_k, seen), (attn.to_v, seen))
        )
        out: Tensor = attn.to_out[0](in_float32(F.scaled_dot_product_attention)(q, k, v).transpose(1, 2).flatten(2))
        if hidden_states.ndim == 4:
            out = out.transpose(1, 2).unflatten(2, hidden_states.shape[2:])
        if attn.residual_connection:
            out = out + hidden_states
        return out / attn.rescale_output_factor


def attend_in_float32(network: nn.Module) -> None:
    """Set `Attention` as the processor of every attention layer in a network of diffusers."""
    for module in network.modules():
        if isinstance(getattr(module, "processor", None), AttnProcessor2_0):
            module.set_processor(Attention())  # type: ignore[operator]
