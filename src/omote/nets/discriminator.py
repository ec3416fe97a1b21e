"""A patch discriminator between renders and decoded or generated images.

An L1 loss penalises a sharp eyelid or tooth that is half a pixel off more than a blurred one, although expressions are read from
just those edges. A discriminator on patches (Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks",
CVPR 2017; for the first stage, Rombach et al., CVPR 2022, §3.1) penalises the blur itself. It also sees the decoder's condition,
so that a sharp but wrong mouth is penalised too.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from omote.nets.precision import keep_float32

GROUPS = 8


class PatchDiscriminator(nn.Module):
    """An image and its condition → features, and a logit per patch with a side of 2^(1 + halvings) pixels.

    Args:
        condition_channels: number of channels of the decoder's condition.
        width: width of the first layer; the other layers are 1.5 times as wide.
        image_channels: number of channels of the image: 3 for colour alone, 4 with depth.
        halvings: number of strided layers after the first layer, which reads 2 × 2 pixels as one.
    """

    def __init__(self, condition_channels: int, width: int = 32, *, image_channels: int = 3, halvings: int = 2) -> None:
        super().__init__()
        deep = width + width // 2
        self.layers = nn.ModuleList([nn.Conv2d(4 * (image_channels + condition_channels), width, 3, padding=1)])
        for i in range(halvings):
            strided = nn.Conv2d(deep if i else width, deep, 4, stride=2, padding=1)
            self.layers.append(nn.Sequential(strided, nn.GroupNorm(GROUPS, deep)))
        self.to_logit = nn.Conv2d(deep if halvings else width, 1, 3, padding=1)
        keep_float32(self.to_logit)

    def forward(self, image: Float[Tensor, "b i s s"], condition: Float[Tensor, "b c s s"]) -> list[Tensor]:
        """Features of every layer, and last the logits (b, 1, p, p)."""
        h = F.pixel_unshuffle(torch.cat([image, condition], dim=1), 2)
        out = []
        for layer in self.layers:
            h = F.leaky_relu(layer(h), 0.2)
            out.append(h)
        return [*out, self.to_logit(h)]

    def frozen(self, image: Float[Tensor, "b i s s"], condition: Float[Tensor, "b c s s"]) -> list[Tensor]:
        """`forward` with gradients to the image, and none to the discriminator."""
        parameters: Mapping[str, Tensor] = {k: v.detach() for k, v in self.named_parameters()}
        out: list[Tensor] = functional_call(self, dict(parameters), (image, condition))
        return out

    def judge(
        self,
        image: Float[Tensor, "b i s s"],
        truth: Float[Tensor, "b i s s"],
        condition: Float[Tensor, "b c s s"],
        weight: Float[Tensor, "b 1 s s"],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Losses of the discriminator and of the decoder.

        Args:
            image: decoded images, with gradients.
            truth: ground truth of the images.
            condition: condition of the decoder.
            weight: weight of each pixel.

        Returns:
            The discriminator's hinge loss (without a gradient to the image), the decoder's adversarial loss, and the L1 distance
            of its images to the ground truth in the discriminator's features (Wang et al., "pix2pixHD", CVPR 2018, §3.3). The
            last two have no gradient to the discriminator.
        """
        real = self(truth, condition)
        fake = self(image.detach(), condition)
        patch = F.adaptive_avg_pool2d(weight, real[-1].shape[-1])
        patch = patch / patch.mean()
        own = (patch * (F.relu(1 - real[-1]) + F.relu(1 + fake[-1]))).mean()
        seen = self.frozen(image, condition)
        adversarial = -(patch * seen[-1]).mean()
        matching = torch.stack(
            [
                (F.adaptive_avg_pool2d(weight, a.shape[-1]) * (a - b.detach()).abs()).mean()
                for a, b in zip(seen[:-1], real[:-1], strict=True)
            ]
        ).sum()
        return own, adversarial, matching
