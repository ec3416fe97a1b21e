"""The wanted geometry as a condition: an image of its depth or normals.

It reaches the denoiser as channels concatenated to its input (Rombach et al., CVPR 2022, §4.3.2), as tokens for
cross-attention, or both. Tokens are linear embeddings of square patches with learned positions (Dosovitskiy et al., "An Image is
Worth 16x16 Words", ICLR 2021, eq. 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from omote.datasets.pairs import PairBatch
from omote.head.rest_face import RestFace
from omote.rgbd.codec import DEPTH, MASK, normals, pack_images
from omote.rgbd.conditions.base import READ_SIZE, Kind, Reader
from omote.rgbd.warp import resized
from omote.types import Expression

GeometryKind = Literal["none", "depth", "normals"]
GeometryPath = Literal["concat", "tokens", "both"]
NUM_CHANNELS: dict[GeometryKind, int] = {"none": 0, "depth": 2, "normals": 4}
TOKEN_PATCH = 8
NUM_TOKENS = (READ_SIZE // TOKEN_PATCH) ** 2
_DEPTH_AND_MASK = slice(DEPTH.start, MASK.stop)


@dataclass(frozen=True, kw_only=True)
class Geometry(Kind):
    """Images of the wanted geometry.

    Attributes:
        image: depth and mask of packed images (`omote.rgbd.codec`).
    """

    name: ClassVar[str] = "geometry"
    dropout: ClassVar[float] = 0.4

    image: Float[Tensor, "b 2 s s"]

    @classmethod
    def of(cls, expressions: Sequence[Expression], face: RestFace | None) -> Geometry | None:
        """Geometry of the expressions with a geometry image; None if there are none."""
        given = torch.tensor([e.geometry is not None for e in expressions])
        if not given.any():
            return None
        packed = pack_images([e.geometry for e in expressions if e.geometry is not None])[:, _DEPTH_AND_MASK]
        image = packed.new_zeros(len(expressions), *packed.shape[1:])
        image[given] = packed
        return cls(image=image, given=given)

    @classmethod
    def of_pairs(cls, pairs: PairBatch, target: Tensor) -> Geometry:
        """Depth and mask of every target."""
        return cls(image=target[:, _DEPTH_AND_MASK], given=torch.ones(len(target), dtype=torch.bool))

    def compact(self, latent_size: int) -> Geometry:
        """The images at a side of `READ_SIZE` pixels, in half precision."""
        return replace(self, image=resized(self.image, READ_SIZE).half())


def geometry_image(geometry: Float[Tensor, "b 2 s s"], kind: GeometryKind) -> Float[Tensor, "b c r r"]:
    """Packed depth and mask → depth or normals, and the mask, at a side of `READ_SIZE` pixels.

    Args:
        geometry: depth and mask of packed images of any size.
        kind: quantity, "depth" or "normals"; normals are those of `omote.rgbd.codec.normals`, zero outside the mask.
    """
    small = resized(geometry, READ_SIZE)
    if kind == "depth":
        return small
    depth, mask = small.split(1, dim=1)
    facing = F.pad(normals(depth), (0, 1, 0, 1), mode="replicate")
    return torch.cat([facing * (mask > 0), mask], dim=1)


def concatenated_channels(kind: GeometryKind, path: GeometryPath) -> int:
    """Number of channels that are concatenated to the denoiser's input."""
    return 0 if path == "tokens" else NUM_CHANNELS[kind]


class GeometryReader(Reader):
    """A reader of geometry images, as tokens of patches, as channels, or both.

    Args:
        kind: quantity that is read: depth or normals.
        path: route into the network: concatenated channels, tokens, or both.
        width: width of a token.
    """

    def __init__(self, kind: GeometryKind, path: GeometryPath, width: int) -> None:
        num_tokens = 0 if path == "concat" else NUM_TOKENS
        super().__init__(width, num_tokens=num_tokens, num_channels=concatenated_channels(kind, path))
        self.kind = kind
        if num_tokens:
            self.patches = nn.Conv2d(NUM_CHANNELS[kind], width, TOKEN_PATCH, stride=TOKEN_PATCH)
            self.positions = nn.Parameter(0.02 * torch.randn(NUM_TOKENS, width))
            self.mix = nn.Sequential(
                nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width)
            )

    def tokens(self, value: Geometry) -> Float[Tensor, "b n w"]:
        """Tokens of the image, one per patch."""
        tokens = self.patches(self.channels(value)).flatten(2).transpose(1, 2) + self.positions
        mixed: Tensor = tokens + self.mix(tokens)
        return mixed

    def channels(self, value: Geometry) -> Float[Tensor, "b c r r"]:
        """Depth or normals, and the mask."""
        return geometry_image(value.image, self.kind)
