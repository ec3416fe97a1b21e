"""A patch discriminator for decoded edits: it tells a render's colours from the decoder's, patch by patch.

L1 pays for a lid or a tooth that lies half a pixel off, and is paid least by drawing it soft; expressions are read from just
those edges. A discriminator on patches (Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks",
CVPR 2017; as the first stage's in Rombach et al., CVPR 2022, §3.1) charges for softness itself. It sees what the decoder
saw, so that a sharp wrong mouth is no way out.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

GROUPS = 8


class PatchDiscriminator(nn.Module):
    """Colour and its condition → features and a logit per 8 × 8 pixels.

    Args:
        condition_channels: of what the decoder saw.
        width: of the first layer; the others have half as much again.
    """

    def __init__(self, condition_channels: int, width: int = 32) -> None:
        super().__init__()
        deep = width + width // 2
        self.layers = nn.ModuleList(
            [
                nn.Conv2d(4 * (3 + condition_channels), width, 3, padding=1),
                nn.Sequential(nn.Conv2d(width, deep, 4, stride=2, padding=1), nn.GroupNorm(GROUPS, deep)),
                nn.Sequential(nn.Conv2d(deep, deep, 4, stride=2, padding=1), nn.GroupNorm(GROUPS, deep)),
            ]
        )
        self.to_logit = nn.Conv2d(deep, 1, 3, padding=1)

    def forward(self, rgb: Float[Tensor, "b 3 s s"], condition: Float[Tensor, "b c s s"]) -> list[Tensor]:
        """Features of every layer, and last the logits (b, 1, s/8, s/8)."""
        h = F.pixel_unshuffle(torch.cat([rgb, condition], dim=1), 2)
        out = []
        for layer in self.layers:
            h = F.leaky_relu(layer(h), 0.2)
            out.append(h)
        return [*out, self.to_logit(h)]

    def judge(
        self,
        image: Float[Tensor, "b 3 s s"],
        truth: Float[Tensor, "b 3 s s"],
        condition: Float[Tensor, "b c s s"],
        weight: Float[Tensor, "b 1 s s"],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What each side pays.

        Args:
            image: decoded, with gradients.
            truth: rendered.
            condition: what the decoder saw.
            weight: of each pixel.

        Returns:
            The discriminator's hinge loss (no gradient to the image), the decoder's adversarial loss, and its L1 to the
            truth in the discriminator's features (Wang et al., "pix2pixHD", CVPR 2018, §3.3); neither of these two has a
            gradient to the discriminator.
        """
        real = self(truth, condition)
        fake = self(image.detach(), condition)
        patch = F.adaptive_avg_pool2d(weight, real[-1].shape[-1])
        patch = patch / patch.mean()
        own = (patch * (F.relu(1 - real[-1]) + F.relu(1 + fake[-1]))).mean()
        frozen: Mapping[str, Tensor] = {k: v.detach() for k, v in self.named_parameters()}
        seen = functional_call(self, dict(frozen), (image, condition))
        adversarial = -(patch * seen[-1]).mean()
        matching = torch.stack(
            [
                (F.adaptive_avg_pool2d(weight, a.shape[-1]) * (a - b.detach()).abs()).mean()
                for a, b in zip(seen[:-1], real[:-1], strict=True)
            ]
        ).sum()
        return own, adversarial, matching
