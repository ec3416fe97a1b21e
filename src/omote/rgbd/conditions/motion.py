"""An expression as an image: what ARKit weights move on the face that is edited.

Fifty-two numbers say what moves, not where in the image; learning the second from the first through attention alone takes a
network long. A head fitted to the face knows: its render under the weights gives, per pixel, where that pixel's skin came
from (a backward flow, as in image animation: Siarohin et al., "First Order Motion Model", NeurIPS 2019), how far it came
nearer, and where eyeballs and the inside of the mouth show. Where no fit is given, a small network finds the landmarks that
one starts from.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from scipy.ndimage import maximum_filter
from torch import Tensor, nn

from omote.geometry.camera import orbit_camera, project, resize, transform
from omote.head.model import PARTS
from omote.head.rest_face import FIRST_INNER_LANDMARK, RestFace
from omote.head.shipped import shipped_head
from omote.rendering.rgbd import interpolate
from omote.rendering.zbuffer import rasterize
from omote.rgbd.codec import DEPTH, DEPTH_SCALE_MM, MASK, fill, reference_depth_mm

# Channels of a motion image. What networks read: backward flow x and y (pixels of a 128² image / 8), depth change (mm / 10,
# positive away from the camera), shares of eyeball, teeth, tongue and the rest of the mouth's inside. Beside them, the fitted
# head's own depth, moved and at rest (`DEPTH_SCALE_MM`, `FRONT_DEPTH` before the head's centre is 0; 0 where it is not).
NUM_CHANNELS = 9
NUM_READ = 7
FLOW, NEARER, READ = slice(0, 2), slice(2, 3), slice(0, NUM_READ)
MOVED_DEPTH, REST_DEPTH = slice(7, 8), slice(8, 9)
FRONT_DEPTH = 10.0
# Farther than this from the source's depth, the fitted head shows another surface.
SAME_SURFACE_MM = 25.0
SIZE = 128
READ_SIZE = 64  # what the denoiser reads of it; pixels of the source move at full size
FLOW_UNIT_PX = 8.0
DEPTH_UNIT_MM = 10.0
FARTHEST = 4.0
IMAGE_SIZE = 128
SHOWN_PARTS = tuple(
    tuple(PARTS.index(p) for p in parts)
    for parts in (("eye_left", "eye_right"), ("teeth_upper", "teeth_lower"), ("tongue",), ("mouth",))
)


@lru_cache(maxsize=1)
def mean_landmarks() -> Float[Tensor, "68 2"]:
    """The mean head's landmarks at rest in the standard camera, pixels of a 128² image."""
    head = shipped_head()
    uvz = project(orbit_camera(size=IMAGE_SIZE), head.landmarks(head.template_mm))
    return torch.from_numpy(uvz[:, :2].astype(np.float32))


@lru_cache(maxsize=1)
def mean_face() -> RestFace:
    """The mean head in the standard camera."""
    return RestFace(head=shipped_head(), vertices_mm=shipped_head().template_mm, camera=orbit_camera(size=SIZE))


@lru_cache(maxsize=1)
def _center_behind_landmarks_mm() -> float:
    """How much farther the mean head's centre is than its inner landmarks."""
    face = mean_face()
    return reference_depth_mm(face.camera) - _landmark_depth_mm(face)


def _landmark_depth_mm(face: RestFace) -> float:
    points = face.head.landmarks(face.vertices_mm)[FIRST_INNER_LANDMARK:]
    return float(transform(face.camera.cam_from_world, points.astype(np.float64))[:, 2].mean())


def motion_image(arkit: Float[np.ndarray, "52"], face: RestFace | None = None) -> Float[np.ndarray, "9 m m"]:
    """What ARKit weights move of a face, in its camera; of the mean face if there is none."""
    return MotionPainter(mean_face() if face is None else face)(arkit)


class MotionPainter:
    """Motion images of one face."""

    def __init__(self, face: RestFace) -> None:
        self.face, self.head = face, face.head
        self.rest_mm = np.ascontiguousarray(face.vertices_mm, np.float32)
        self.camera = resize(face.camera, width=SIZE, height=SIZE)
        depth = rasterize(self.camera, self.rest_mm, self.head.faces, cull_back=True).depth_mm
        # The farthest of each pixel's surroundings, so that a slope is no occlusion.
        self.farthest_at_rest = maximum_filter(depth, 5)
        # A head in its own frame has no plane in common with the picture; its landmarks have.
        self.front_mm = _landmark_depth_mm(face) + _center_behind_landmarks_mm() - FRONT_DEPTH * DEPTH_SCALE_MM
        self.rest_depth = np.where(depth > 0, (depth - self.front_mm) / DEPTH_SCALE_MM, 0.0)

    def __call__(self, arkit: Float[np.ndarray, "52"]) -> Float[np.ndarray, "9 m m"]:
        """The motion image of ARKit weights."""
        head, camera = self.head, self.camera
        vertices = self.face.moved(arkit)
        raster = rasterize(camera, vertices, head.faces, cull_back=True)
        rest = interpolate(raster.face_id, raster.barycentric, head.faces, self.rest_mm)
        out = np.zeros((NUM_CHANNELS, SIZE, SIZE), np.float32)
        seen = raster.face_id >= 0
        came_from = project(camera, rest[seen])
        rows, columns = np.nonzero(seen)
        scale = IMAGE_SIZE / SIZE / FLOW_UNIT_PX
        out[0, seen] = (came_from[:, 0] - (columns + 0.5)) * scale
        out[1, seen] = (came_from[:, 1] - (rows + 0.5)) * scale
        # Against what was *seen* there at rest: inside an opened mouth, that was the lips in front of these teeth.
        column, row = np.clip(came_from[:, :2].astype(int), 0, SIZE - 1).T
        before = self.farthest_at_rest[row, column]
        before = np.where(before > 0, np.minimum(before, came_from[:, 2]), came_from[:, 2])
        # A silhouette may come from another surface far behind: no expression moves by that.
        out[2, seen] = np.clip((raster.depth_mm[seen] - before) / DEPTH_UNIT_MM, -FARTHEST, FARTHEST)
        part = head.face_part[raster.face_id]
        for i, parts in enumerate(SHOWN_PARTS):
            out[3 + i] = seen & np.isin(part, parts)
        out[MOVED_DEPTH, seen] = (raster.depth_mm[seen] - self.front_mm) / DEPTH_SCALE_MM
        out[REST_DEPTH] = self.rest_depth
        return out


def motion_images(
    arkit: Float[Tensor, "b 52"], faces: Sequence[RestFace | None] | None = None
) -> Float[Tensor, "b 9 m m"]:
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


def resized(motion: Float[Tensor, "b c m m"], size: int) -> Float[Tensor, "b c s s"]:
    """Motion channels at another size: averaged down, interpolated up."""
    if size == motion.shape[-1]:
        return motion
    if size < motion.shape[-1]:
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


def shifted(motion: Float[Tensor, "b n m m"], shift: Float[Tensor, "b 2 h w"]) -> Float[Tensor, "b n m m"]:
    """A motion image that reads everything from ``shift`` (flow units, at any size) farther: the two flows composed."""
    size = int(motion.shape[-1])
    shift = F.interpolate(shift, size=(size, size), mode="bilinear", align_corners=False)
    there = warped(motion, shift)
    return torch.cat([there[:, FLOW] + shift, there[:, 2:]], dim=1)


def moved(image: Float[Tensor, "b 5 s s"], motion: Float[Tensor, "b n m m"]) -> Float[Tensor, "b 5 s s"]:
    """A packed RGB-D image moved by a motion image: `warped`, its depth changed as the motion says."""
    out = warped(image, motion)
    nearer = resized(motion[:, NEARER], int(image.shape[-1]))
    return torch.cat([out[:, :3], out[:, 3:4] + nearer * (DEPTH_UNIT_MM / DEPTH_SCALE_MM), out[:, 4:]], dim=1)


def surfaced(image: Float[Tensor, "b 5 s s"], motion: Float[Tensor, "b 9 m m"]) -> Float[Tensor, "b 1 s s"]:
    """The moved depth as the fitted head's surface has it.

    `moved` takes depth from the source's pixels, so its outlines (jaw, ears, lips) are the source's, blurred by as much as
    they were shifted; a pixel of jaw against neck is wrong by centimetres. Here the outlines are the moved head's, and what
    the source adds is how far the person lies before or behind the fitted head at rest, which is smooth.

    Args:
        image: packed source.
        motion: of the same face; where it shows nothing, the answer is `moved`'s.
    """
    size = int(image.shape[-1])
    rest, now = (F.interpolate(motion[:, c], size=(size, size), mode="nearest") for c in (REST_DEPTH, MOVED_DEPTH))
    departure = image[:, DEPTH] - (rest - FRONT_DEPTH)
    same = (image[:, MASK] > 0) & (rest > 0) & (departure.abs() < SAME_SURFACE_MM / DEPTH_SCALE_MM)
    departure = warped(fill(departure, same.to(image.dtype)), motion)
    return torch.where(now > 0, now - FRONT_DEPTH + departure, moved(image, motion)[:, DEPTH])
