"""What stays float32 inside a network that runs in bfloat16.

Its eight bits of mantissa suffice for features, which convolutions and matrix products average over. They don't for what is
read off directly (a depth of 100 mm would have steps of .4 mm), for distances whose difference counts, and for a softmax.
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
    """Run a function in float32 whatever the autocast around it; outside of one, it is unchanged."""

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
    """diffusers' attention, which under a CPU's autocast is in float32 between its projections.

    Fused attention on a CPU takes three to ten times as long in bfloat16 as in float32, backwards. A GPU's keeps the softmax in
    float32 by itself.
    """

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """(b, n, c) or (b, c, h, w) → the same, reading from ``encoder_hidden_states`` or from itself.

        Args:
            attn: the layer, a `diffusers.models.attention_processor.Attention` without masks and dropout.
            hidden_states: what is changed.
            encoder_hidden_states: (b, m, k), what cross-attention reads.
            attention_mask: None.
            temb: not read.
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
    """Give every attention layer of a network of diffusers the processor `Attention`."""
    for module in network.modules():
        if isinstance(getattr(module, "processor", None), AttnProcessor2_0):
            module.set_processor(Attention())  # type: ignore[operator]
