"""An expression as an image: what ARKit weights move on the mean head, laid over the face that is edited.

Fifty-two numbers say what moves, not where in the image; learning the second from the first through attention alone takes a
network long. The mean head knows: its render under the weights gives, per pixel, where that pixel's skin came from (a
backward flow, as in image animation: Siarohin et al., "First Order Motion Model", NeurIPS 2019), how far it came nearer,
and where eyeballs and the inside of the mouth show. A small network finds the person's landmarks in the source, and the
motion image is carried from the mean head's landmarks to theirs.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from scipy.ndimage import maximum_filter
from torch import Tensor, nn

from omote.geometry.camera import orbit_camera, project
from omote.head.model import PARTS
from omote.head.shipped import shipped_head
from omote.ldm.representation import DEPTH_SCALE_MM
from omote.render.rgbd import interpolate
from omote.render.zbuffer import rasterize

# Channels of a motion image: backward flow x and y (pixels of a 128² image / 8), depth change (mm / 10, positive away from
# the camera), share of eyeball, share of mouth interior.
NUM_CHANNELS = 5
FLOW, NEARER = slice(0, 2), slice(2, 3)
SIZE = 128
READ_SIZE = 64  # what the denoiser reads of it; pixels of the source move at full size
FLOW_UNIT_PX = 8.0
DEPTH_UNIT_MM = 10.0
FARTHEST = 4.0
IMAGE_SIZE = 128
# How far a landmark's displacement reaches, in pixels of a 128² image.
REACH_PX = 9.0
INNER_PARTS = tuple(PARTS.index(p) for p in ("teeth_upper", "teeth_lower", "tongue", "mouth"))
EYE_PARTS = tuple(PARTS.index(p) for p in ("eye_left", "eye_right"))


@lru_cache(maxsize=1)
def mean_landmarks() -> Float[Tensor, "68 2"]:
    """The mean head's landmarks at rest in the standard camera, pixels of a 128² image."""
    head = shipped_head()
    uvz = project(orbit_camera(size=IMAGE_SIZE), head.landmarks(head.template_mm))
    return torch.from_numpy(uvz[:, :2].astype(np.float32))


def motion_image(arkit: Float[np.ndarray, "52"]) -> Float[np.ndarray, "5 m m"]:
    """The mean head's motion image under ARKit weights, in the standard camera."""
    head = shipped_head()
    camera = orbit_camera(size=SIZE)
    vertices = head.vertices(expression=arkit)
    raster = rasterize(camera, vertices, head.faces, cull_back=True)
    rest = interpolate(raster.face_id, raster.barycentric, head.faces, head.template_mm)
    out = np.zeros((NUM_CHANNELS, SIZE, SIZE), np.float32)
    seen = raster.face_id >= 0
    came_from = project(camera, rest[seen])
    rows, columns = np.nonzero(seen)
    scale = IMAGE_SIZE / SIZE / FLOW_UNIT_PX
    out[0, seen] = (came_from[:, 0] - (columns + 0.5)) * scale
    out[1, seen] = (came_from[:, 1] - (rows + 0.5)) * scale
    # Against what was *seen* there at rest: inside an opened mouth, that was the lips in front of these teeth.
    column, row = np.clip(came_from[:, :2].astype(int), 0, SIZE - 1).T
    before = _at_rest()[row, column]
    before = np.where(before > 0, np.minimum(before, came_from[:, 2]), came_from[:, 2])
    # A silhouette may come from another surface far behind: no expression moves by that.
    out[2, seen] = np.clip((raster.depth_mm[seen] - before) / DEPTH_UNIT_MM, -FARTHEST, FARTHEST)
    part = head.face_part[raster.face_id]
    out[3] = seen & np.isin(part, EYE_PARTS)
    out[4] = seen & np.isin(part, INNER_PARTS)
    return out


@lru_cache(maxsize=1)
def _at_rest() -> Float[np.ndarray, "m m"]:
    """Depth of the mean head at rest; the farthest of each pixel's surroundings, so that a slope is no occlusion."""
    head = shipped_head()
    depth = rasterize(orbit_camera(size=SIZE), head.template_mm, head.faces, cull_back=True).depth_mm
    return maximum_filter(depth, 5)


def motion_images(arkit: Float[Tensor, "b 52"]) -> Float[Tensor, "b 5 m m"]:
    """`motion_image` of each row."""
    return torch.from_numpy(np.stack([motion_image(row) for row in arkit.numpy().astype(np.float32)]))


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


def laid_over(
    motion: Float[Tensor, "b 5 m m"], landmarks_px: Float[Tensor, "b 68 2"], mean_px: Float[Tensor, "68 2"]
) -> Float[Tensor, "b 5 m m"]:
    """Carry motion images from the mean head to a face, by kernel regression of the landmarks' offsets."""
    centers = (torch.arange(SIZE, device=motion.device, dtype=motion.dtype) + 0.5) * (IMAGE_SIZE / SIZE)
    kx = torch.exp(-0.5 * ((landmarks_px[..., :1] - centers) / REACH_PX) ** 2)
    ky = torch.exp(-0.5 * ((landmarks_px[..., 1:] - centers) / REACH_PX) ** 2)
    offset = mean_px - landmarks_px
    # A weak pull of all landmarks everywhere, so that far pixels move with the face as a whole.
    total = torch.einsum("bly,blx->byx", ky, kx) + 1e-3 * offset.shape[1]
    moved = torch.einsum("bly,blx,blc->byxc", ky, kx, offset) + 1e-3 * offset.sum(dim=1)[:, None, None, :]
    moved = moved / total[..., None]
    grid = torch.stack(torch.broadcast_tensors(centers[None, None, :], centers[None, :, None]), dim=-1) + moved
    return F.grid_sample(motion, 2 * grid / IMAGE_SIZE - 1, align_corners=False, padding_mode="border")


def resized(motion: Float[Tensor, "b c m m"], size: int) -> Float[Tensor, "b c s s"]:
    """Motion channels at another size: averaged down, interpolated up."""
    if size <= motion.shape[-1]:
        return F.avg_pool2d(motion, motion.shape[-1] // size)
    return F.interpolate(motion, size=(size, size), mode="bilinear", align_corners=False)


def warped(image: Float[Tensor, "b c h w"], motion: Float[Tensor, "b 5 m m"]) -> Float[Tensor, "b c h w"]:
    """An image (or latent) of any size with its pixels moved by a motion image's backward flow."""
    height, width = image.shape[-2:]
    flow = resized(motion[:, FLOW], height)
    ys = (torch.arange(height, device=image.device, dtype=image.dtype) + 0.5) / height
    xs = (torch.arange(width, device=image.device, dtype=image.dtype) + 0.5) / width
    grid = torch.stack(torch.broadcast_tensors(xs[None, :], ys[:, None]), dim=-1)
    grid = grid + flow.permute(0, 2, 3, 1) * (FLOW_UNIT_PX / IMAGE_SIZE)
    return F.grid_sample(image, 2 * grid - 1, align_corners=False, padding_mode="border")


def moved(image: Float[Tensor, "b 5 s s"], motion: Float[Tensor, "b 5 m m"]) -> Float[Tensor, "b 5 s s"]:
    """A packed RGB-D image moved by a motion image: `warped`, its depth changed as the mean head's."""
    out = warped(image, motion)
    nearer = resized(motion[:, NEARER], image.shape[-1])
    return torch.cat([out[:, :3], out[:, 3:4] + nearer * (DEPTH_UNIT_MM / DEPTH_SCALE_MM), out[:, 4:]], dim=1)
