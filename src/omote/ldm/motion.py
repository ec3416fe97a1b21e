"""Motion images (`omote.render.motion`) as tensors: they lead the editor, and they move images and latents.

What a fitted head says is not quite this person's motion: a fit errs, and the face may move as another family of heads
does. The `MotionRefiner` learns the difference; the `LandmarkLocator` finds what a fit starts from.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from omote.geometry.camera import orbit_camera, project
from omote.head.rest_face import RestFace
from omote.head.shipped import shipped_head
from omote.ldm.representation import DEPTH_SCALE_MM
from omote.render.motion import (
    DEPTH_UNIT_MM,
    FLOW,
    FLOW_UNIT_PX,
    IMAGE_SIZE,
    NEARER,
    NUM_CHANNELS,
    READ_SIZE,
    SIZE,
    MotionPainter,
    mean_face,
)

GROUPS = 8


@lru_cache(maxsize=1)
def mean_landmarks() -> Float[Tensor, "68 2"]:
    """The mean head's landmarks at rest in the standard camera, pixels of a 128² image."""
    head = shipped_head()
    uvz = project(orbit_camera(size=IMAGE_SIZE), head.landmarks(head.template_mm))
    return torch.from_numpy(uvz[:, :2].astype(np.float32))


def motion_images(
    arkit: Float[Tensor, "b 52"], faces: Sequence[RestFace | None] | None = None
) -> Float[Tensor, "b 7 m m"]:
    """`motion_image` of each row and its face; neighbouring rows may share one."""
    out = torch.empty(len(arkit), NUM_CHANNELS, SIZE, SIZE)
    painter, painted = None, None
    for i, weights in enumerate(arkit.numpy().astype(np.float32)):
        face = (faces[i] if faces is not None else None) or mean_face()
        if painter is None or face is not painted:
            painter, painted = MotionPainter(face), face
        out[i] = torch.from_numpy(painter(weights))
    return out


class LandmarkLocator(nn.Module):
    """Where the 68 landmarks would be at rest, from a source latent in any expression."""

    mean_px: Tensor

    def __init__(self, latent_channels: int, sample_size: int, width: int = 48) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.PixelUnshuffle(2),
            nn.Conv2d(4 * latent_channels, width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Flatten(),
            nn.Linear(width * (sample_size // 8) ** 2, 128),
            nn.SiLU(),
            nn.Linear(128, 68 * 2),
        )
        last = self.net[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.register_buffer("mean_px", mean_landmarks())

    def forward(self, source: Float[Tensor, "b d h w"]) -> Float[Tensor, "b 68 2"]:
        """Scaled source latents → landmarks, pixels of a 128² image."""
        out: Tensor = self.mean_px + 4.0 * self.net(source).unflatten(1, (68, 2))
        return out


class _UnitBlock(nn.Module):
    """A residual block whose features the condition scales and shifts (Perez et al., "FiLM", AAAI 2018)."""

    def __init__(self, width: int, context: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, width)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.norm2 = nn.GroupNorm(GROUPS, width)
        self.film = nn.Linear(context, 2 * width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        h = self.norm2(self.conv1(F.silu(self.norm1(x))))
        scale, shift = self.film(context)[:, :, None, None].chunk(2, dim=1)
        out: Tensor = x + self.conv2(F.silu(h * (1 + scale) + shift))
        return out


class MotionRefiner(nn.Module):
    """From the motion of a fitted head to the person's own: everything is read from a little farther, and some is nearer.

    Args:
        latent_channels: of the source latent, which says whose face it is.
        sample_size: of the source latent.
        width: features at that size; half more at half of it.
    """

    def __init__(self, latent_channels: int, sample_size: int, width: int = 64) -> None:
        super().__init__()
        self.patch = READ_SIZE // sample_size
        deep = width + width // 2
        self.read = nn.Conv2d(latent_channels + NUM_CHANNELS * self.patch**2, width, 3, padding=1)
        self.context = nn.Sequential(nn.Linear(52 + width, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU())
        self.first = _UnitBlock(width, 128)
        self.down = nn.Conv2d(width, deep, 3, stride=2, padding=1)
        self.middle = nn.ModuleList(_UnitBlock(deep, 128) for _ in range(3))
        self.up = nn.Conv2d(deep, width, 1)
        self.last = _UnitBlock(width, 128)
        self.to_change = nn.Conv2d(width, 3, 3, padding=1)
        nn.init.zeros_(self.to_change.weight)
        assert self.to_change.bias is not None
        nn.init.zeros_(self.to_change.bias)

    def forward(
        self, motion: Float[Tensor, "b 7 m m"], source: Float[Tensor, "b d h w"], arkit: Float[Tensor, "b 52"]
    ) -> Float[Tensor, "b 7 m m"]:
        """Motion images of fitted heads → of the persons that the scaled source latents show."""
        coarse = F.pixel_unshuffle(resized(motion, READ_SIZE), self.patch)
        x = self.read(torch.cat([source, coarse], dim=1))
        # Which family a face belongs to is seen in the whole picture.
        context = self.context(torch.cat([arkit.to(x.dtype), F.silu(x).mean(dim=(2, 3))], dim=1))
        x = self.first(x, context)
        h = self.down(x)
        for block in self.middle:
            h = block(h, context)
        x = self.last(x + F.interpolate(self.up(h), scale_factor=2.0, mode="nearest"), context)
        change = self.to_change(F.silu(x))
        out = shifted(motion, change[:, :2])
        nearer = resized(change[:, 2:], int(motion.shape[-1]))
        return torch.cat([out[:, FLOW], out[:, NEARER] + nearer, out[:, 3:]], dim=1)


def resized(motion: Float[Tensor, "b c m m"], size: int) -> Float[Tensor, "b c s s"]:
    """Motion channels at another size: averaged down, interpolated up."""
    if size <= motion.shape[-1]:
        return F.avg_pool2d(motion, motion.shape[-1] // size)
    return F.interpolate(motion, size=(size, size), mode="bilinear", align_corners=False)


def warped(image: Float[Tensor, "b c h w"], motion: Float[Tensor, "b n m m"]) -> Float[Tensor, "b c h w"]:
    """An image (or latent) of any size with its pixels moved by a backward flow: the first channels of a motion image."""
    height, width = int(image.shape[-2]), int(image.shape[-1])
    flow = resized(motion[:, FLOW], height)
    ys = (torch.arange(height, device=image.device, dtype=image.dtype) + 0.5) / height
    xs = (torch.arange(width, device=image.device, dtype=image.dtype) + 0.5) / width
    grid = torch.stack(torch.broadcast_tensors(xs[None, :], ys[:, None]), dim=-1)
    grid = grid + flow.permute(0, 2, 3, 1) * (FLOW_UNIT_PX / IMAGE_SIZE)
    return F.grid_sample(image, 2 * grid - 1, align_corners=False, padding_mode="border")


def shifted(motion: Float[Tensor, "b 7 m m"], shift: Float[Tensor, "b 2 h w"]) -> Float[Tensor, "b 7 m m"]:
    """A motion image that reads everything from ``shift`` (flow units, at any size) farther: the two flows composed."""
    size = int(motion.shape[-1])
    shift = F.interpolate(shift, size=(size, size), mode="bilinear", align_corners=False)
    there = warped(motion, shift)
    return torch.cat([there[:, FLOW] + shift, there[:, 2:]], dim=1)


def moved(image: Float[Tensor, "b 5 s s"], motion: Float[Tensor, "b 7 m m"]) -> Float[Tensor, "b 5 s s"]:
    """A packed RGB-D image moved by a motion image: `warped`, its depth changed as the mean head's."""
    out = warped(image, motion)
    nearer = resized(motion[:, NEARER], int(image.shape[-1]))
    return torch.cat([out[:, :3], out[:, 3:4] + nearer * (DEPTH_UNIT_MM / DEPTH_SCALE_MM), out[:, 4:]], dim=1)
