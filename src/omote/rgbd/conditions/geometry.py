"""A pre-processed image as a condition: the depth of the wanted geometry, or its normals.

It reaches the denoiser by concatenation to its input, pixel beside pixel (Rombach et al., CVPR 2022, §4.3.2), and as tokens
for cross-attention: square patches, embedded linearly, with learned positions (Dosovitskiy et al., "An Image is Worth 16x16
Words", ICLR 2021, eq. 1).
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from omote.rgbd.codec import DEPTH, MASK, normals
from omote.rgbd.conditions.motion import READ_SIZE, resized

GeometryKind = Literal["none", "depth", "normals"]
GeometryPath = Literal["concat", "tokens", "both"]
GEOMETRY = slice(DEPTH.start, MASK.stop)  # of a packed image
NUM_CHANNELS: dict[GeometryKind, int] = {"none": 0, "depth": 2, "normals": 4}
TOKEN_PATCH = 8
NUM_TOKENS = (READ_SIZE // TOKEN_PATCH) ** 2


def geometry_image(geometry: Float[Tensor, "b 2 s s"], kind: GeometryKind) -> Float[Tensor, "b c r r"]:
    """Packed depth and mask → what the denoiser reads, `READ_SIZE` pixels of a side: depth or normals, and the mask.

    Args:
        geometry: of a packed image (`omote.rgbd.codec`), of any size.
        kind: "depth" or "normals"; these face the camera, and are zero where there is nothing.
    """
    small = resized(geometry, READ_SIZE)
    if kind == "depth":
        return small
    depth, mask = small.split(1, dim=1)
    facing = F.pad(normals(depth), (0, 1, 0, 1), mode="replicate")
    return torch.cat([facing * (mask > 0), mask], dim=1)


class GeometryTokens(nn.Module):
    """A geometry image → tokens, and a learned "not given".

    Args:
        channels: of the image.
        width: of a token.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(channels, width, TOKEN_PATCH, stride=TOKEN_PATCH)
        self.positions = nn.Parameter(0.02 * torch.randn(NUM_TOKENS, width))
        self.mix = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width)
        )
        self.nothing = nn.Parameter(torch.zeros(NUM_TOKENS, width))

    def forward(self, image: Float[Tensor, "b c r r"], given: Bool[Tensor, "b"]) -> Float[Tensor, "b n w"]:
        """Tokens where an image is given."""
        tokens = self.patches(image).flatten(2).transpose(1, 2) + self.positions
        return torch.where(given[:, None, None], tokens + self.mix(tokens), self.nothing)


class IdentityToken(nn.Module):
    """Identity coefficients of the fitted head, in σ → a token, and a learned "not given".

    Args:
        num_identity: coefficients.
        width: of the token.
    """

    def __init__(self, num_identity: int, width: int) -> None:
        super().__init__()
        self.of_identity = nn.Sequential(nn.Linear(num_identity, 2 * width), nn.SiLU(), nn.Linear(2 * width, width))
        self.nothing = nn.Parameter(torch.zeros(width))

    def forward(self, identity: Float[Tensor, "b i"], given: Bool[Tensor, "b"]) -> Float[Tensor, "b 1 w"]:
        """A token where coefficients are given."""
        return torch.where(given[:, None], self.of_identity(identity), self.nothing)[:, None]
