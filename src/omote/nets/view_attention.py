"""Self-attention over the tokens of several views (Shi et al., "MVDream", ICLR 2024, §3.1), for any stock U-Net."""

from __future__ import annotations

from typing import Any

from diffusers.models.attention_processor import AttnProcessor2_0
from torch import Tensor


class ViewAttention:
    """Self-attention over the tokens of all views of a set; cross-attention is unchanged.

    An attention processor for a stock U-Net whose batch holds the views of each set consecutively.

    Args:
        num_views: number V of views in a set.
    """

    def __init__(self, num_views: int) -> None:
        self.num_views = num_views
        self.plain = AttnProcessor2_0()

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, *args: Any, **kwargs: Any
    ) -> Tensor:
        """Compute attention, as diffusers' attention processors do."""
        if encoder_hidden_states is not None:
            out: Tensor = self.plain(attn, hidden_states, encoder_hidden_states, *args, **kwargs)
            return out
        together = hidden_states.reshape(-1, self.num_views * hidden_states.shape[1], hidden_states.shape[2])
        return self.plain(attn, together, None, *args, **kwargs).reshape(hidden_states.shape)
