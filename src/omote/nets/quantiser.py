"""Vector quantisation of latents: a codebook of moving averages, usage statistics, and revival of dead codes.

After van den Oord et al., "Neural Discrete Representation Learning", NeurIPS 2017, appendix A.1. The codebook is updated by
moving averages, not by gradients: it consists of buffers, not parameters, so it is the same on every process of a distributed
run and needs no learning rate.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

DECAY = 0.99
# A code is dead if it has less than this share of the latents that each code would have in an evenly used codebook.
DEAD_SHARE = 0.03
REVIVE_EVERY = 20


@dataclass(frozen=True, kw_only=True)
class Quantised:
    """Latents on the codebook.

    Attributes:
        values: nearest codes, whose gradients pass to the latents (straight-through).
        indices: indices of the codes.
        commitment: mean squared distance of the latents to their codes, with gradients to the encoder only.
    """

    values: Float[Tensor, "b c h w"]
    indices: Int[Tensor, "b h w"]
    commitment: Float[Tensor, ""]


class VectorQuantiser(nn.Module):
    """Nearest-neighbour quantisation.

    Args:
        num_codes: number of codes in the codebook.
        channels: number of channels of a code.
    """

    codes: Tensor
    counts: Tensor
    sums: Tensor
    steps: Tensor

    def __init__(self, num_codes: int, channels: int) -> None:
        super().__init__()
        codes = torch.randn(num_codes, channels)
        self.register_buffer("codes", codes)
        # Moving averages of each code's number of latents per step, and of their sum.
        self.register_buffer("counts", torch.ones(num_codes))
        self.register_buffer("sums", codes.clone())
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def forward(self, z: Float[Tensor, "b c h w"]) -> Quantised:
        """Quantise latents; in training mode, also update the codebook."""
        flat = z.permute(0, 2, 3, 1).flatten(0, 2)
        # In float32 even under autocast: rounding would swamp differences between the distances to similar codes.
        indices = torch.cdist(flat.detach().float(), self.codes).argmin(dim=1)
        shape = (len(z), *z.shape[2:])
        nearest = self.codes[indices].unflatten(0, shape).permute(0, 3, 1, 2).to(z.dtype)
        commitment = F.mse_loss(z, nearest)
        if self.training and torch.is_grad_enabled():
            self._follow(flat.detach().float(), indices)
        return Quantised(values=z + (nearest - z).detach(), indices=indices.unflatten(0, shape), commitment=commitment)

    def lookup(self, indices: Int[Tensor, "b h w"]) -> Float[Tensor, "b c h w"]:
        """Codes by index."""
        return self.codes[indices].permute(0, 3, 1, 2)

    @torch.no_grad()
    def _follow(self, flat: Float[Tensor, "n c"], indices: Int[Tensor, "n"]) -> None:
        num_codes = len(self.codes)
        self.counts.lerp_(torch.bincount(indices, minlength=num_codes).to(self.counts.dtype), 1 - DECAY)
        sums = torch.zeros_like(self.sums).index_add_(0, indices, flat)
        self.sums.lerp_(sums, 1 - DECAY)
        self.codes.copy_(self.sums / self.counts.clamp_min(1e-5)[:, None])
        self.steps += 1
        if int(self.steps) % REVIVE_EVERY == 0:
            self._revive(flat)

    def _revive(self, flat: Float[Tensor, "n c"]) -> None:
        """Move dead codes onto latents of this batch, so that they are used again."""
        even = float(self.counts.sum()) / len(self.codes)
        dead = torch.nonzero(self.counts < DEAD_SHARE * even)[:, 0]
        if not len(dead):
            return
        chosen = flat[torch.randint(len(flat), (len(dead),), device=flat.device)]
        self.codes[dead] = chosen
        self.counts[dead] = even
        self.sums[dead] = chosen * even


@dataclass(frozen=True, kw_only=True)
class CodebookUse:
    """Usage of a codebook over many latents.

    Attributes:
        share_used: share of the codes that occur among the latents.
        perplexity: exponential of the entropy of the usage, the size of an evenly used codebook with the same entropy.
    """

    share_used: float
    perplexity: float


def codebook_use(indices: Int[Tensor, "..."], num_codes: int) -> CodebookUse:
    """Usage statistics of quantised latents."""
    counts = torch.bincount(indices.flatten(), minlength=num_codes).double()
    share = counts / counts.sum()
    entropy = -(share * share.clamp_min(1e-30).log()).sum()
    return CodebookUse(share_used=float((counts > 0).double().mean()), perplexity=float(entropy.exp()))
